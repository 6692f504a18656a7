"""How fast a deployment serves its traffic."""

from dataclasses import dataclass, field, replace
from typing import Any, Final

from llmplan.analyze.estimate import Estimate, estimate
from llmplan.analyze.ingredients import FULL_STEP_TOKENS
from llmplan.analyze.traffic import Deployed, Drafts, Scenario, Traffic
from llmplan.errors import InputError
from llmplan.hardware.catalogue import parse_gpus
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model, Part
from llmplan.results import schema
from llmplan.results.common import Said, check_roles, context_warnings
from llmplan.results.engine_said import engine_echo
from llmplan.results.estimated import details, explained, figures, slo_rows, sweep_row
from llmplan.results.gpus_said import gpu_echo, gpu_warnings
from llmplan.results.memory import MemoryQuestion, pasted
from llmplan.results.own_profile import calibration_row, own_kernels, stretched
from llmplan.results.time_said import time_warnings
from llmplan.results.traffic_options import TrafficOptions
from llmplan.results.what_serves import Serves, what_serves

DEFAULT_CONCURRENCY: Final = 64
"""Requests in flight where nothing is said, or as many as fit if these are less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateQuestion:
    """Times and rates of one model on GPUs.

    Attributes:
        served: The model, its formats, GPUs, layout and engine, as memory is asked.
        traffic: What is served.
        explain: Derive each figure.
        profile: A calibration profile, ``none``, or nothing for that of the device.
    """

    served: MemoryQuestion
    traffic: TrafficOptions = field(default_factory=TrafficOptions)
    explain: bool = False
    profile: str | None = None

    def ask(self) -> schema.Envelope:
        """The answer; nothing but the reason where a request does not fit.

        Raises:
            InputError: Options that do not go together, or too little is known.
            LayoutError: The model does not split as asked.
        """
        asked = self.served if self.served.from_command is None else pasted(self.served)
        if asked.model is None:
            raise InputError("name a model, or paste a start command with --from-command.")
        if asked.gpus is None:
            raise InputError("times are of GPUs: add --gpus, as in --gpus 8xH100.")
        published = load_model(asked.model)
        check_roles(published, asked.formats.dtype)
        self._check_model(asked, published)
        counts, scenario = self.traffic.requests(), self.traffic.way()
        serves = what_serves(
            asked, self.traffic, published, parse_gpus(asked.gpus), max(counts, default=1)
        )
        inputs = self._echo(asked, serves, published)
        if not serves.fits:
            step = f"`llmplan fit {published.identity.name} --gpus {serves.group}` lists what fits."
            remarks = (*published.identity.assumptions, *gpu_warnings(serves.group), step)
            said = Said("estimate", inputs, remarks)
            return said.answered(schema.EstimateResult(**_placed(serves, published)))
        drafts = self._drafts(asked, serves)
        if not counts and scenario in (Scenario.CLOSED_LOOP, Scenario.STATIC_BATCH):
            held = serves.slots * serves.workers
            counts = (min(DEFAULT_CONCURRENCY, held),)
        own, profile, said_of_it = own_kernels(self.profile, serves.group.device)
        deployed, chunk = replace(serves.deployed, own=own), _step_tokens(asked)
        several = [self._estimate(deployed, count, drafts, chunk) for count in counts or (None,)]
        inputs |= {"concurrency": several[-1].traffic.concurrency, "concurrencies": list(counts)}
        warnings = (
            *context_warnings(published, sum(serves.tokens)),
            *time_warnings(asked, serves, several[-1], self.traffic.limits()),
            *said_of_it,
            *stretched(own),
        )
        result = self._result(serves, several, published)
        if own and profile:
            last = counts[-1] if counts else None
            plain = self._estimate(serves.deployed, last, drafts, chunk)
            used = calibration_row(profile, own, plain)
            result = result.model_copy(update={"calibration": used})
        return Said("estimate", inputs, warnings).answered(result)

    def _result(
        self, serves: Serves, several: list[Estimate], published: Model
    ) -> schema.EstimateResult:
        found = several[-1]
        placed, rates = _placed(serves, published), figures(found)
        told: dict[str, Any] = {
            **placed,
            **rates,
            "provenance": placed["provenance"] | rates["provenance"],
            **details(found),
            "slo": slo_rows(found, self.traffic.limits()),
            "sweep": [sweep_row(each) for each in several] if len(several) > 1 else [],
            "explain": explained(found) if self.explain else [],
        }
        return schema.EstimateResult(**told)

    def _estimate(
        self, deployed: Deployed, count: int | None, drafts: Drafts, step_tokens: int
    ) -> Estimate:
        isl, osl = self.traffic.tokens
        traffic = Traffic(
            isl=isl,
            osl=osl,
            concurrency=count,
            rate=self.traffic.rate,
            scenario=self.traffic.way(),
            spread=self.traffic.spread,
            prefix_frac=self.traffic.cached_frac(),
            step_tokens=step_tokens,
        )
        return estimate(deployed, traffic, drafts)

    def _drafts(self, asked: MemoryQuestion, serves: Serves) -> Drafts:
        tokens = serves.settings.speculative_tokens or 0
        acceptance = self.traffic.accepted_frac(tokens)
        if tokens and not (asked.mtp or serves.draft):
            raise InputError("say who drafts: --mtp for the model's own modules, or --draft MODEL.")
        return Drafts(tokens=tokens, acceptance=acceptance, model=serves.draft)

    def _check_model(self, asked: MemoryQuestion, published: Model) -> None:
        name = published.identity.name
        if published.diffusion:
            raise InputError(f"{name} is a diffusion pipeline: estimate knows language models.")
        if asked.mtp and not published.parts(Part.MTP):
            raise InputError(f"{name} has no MTP modules: --draft MODEL names a draft model.")
        isl, osl = self.traffic.tokens
        longest = asked.engine.settings().max_model_len
        if longest and isl + osl > longest:
            raise InputError(
                f"{isl:,} prompt and {osl:,} output tokens are more than the {longest:,} that the "
                "engine is set to: raise --max-model-len, or lower --isl or --osl."
            )
        if isl + osl > published.context_length:
            raise InputError(
                f"{isl:,} prompt and {osl:,} output tokens are more than the "
                f"{published.context_length:,} that {name} is published for: lower --isl or --osl."
            )

    def _echo(self, asked: MemoryQuestion, serves: Serves, published: Model) -> dict[str, Any]:
        return {
            "model": published.identity.name,
            **asked.formats.echo(serves.states),
            **gpu_echo(serves.group),
            **engine_echo(serves.profile, serves.best),
            "engine_generation": serves.deployed.generation.value,
            **asked.layout.echo(),
            **self.traffic.echo(),
            "step_tokens": _step_tokens(asked),
            "speculative_tokens": serves.settings.speculative_tokens,
            "mtp": asked.mtp,
            "draft": serves.draft.identity.name if serves.draft else None,
            "text_only": asked.text_only,
            "corrections": asked.corrections,
            "profile": self.profile,
        }


def _step_tokens(asked: MemoryQuestion) -> int:
    """Most tokens of a step: as said, else those that the serving model was fitted with."""
    return asked.engine.settings().max_num_batched_tokens or FULL_STEP_TOKENS


def _placed(serves: Serves, published: Model) -> dict[str, Any]:
    """What memory says."""
    deployed = serves.deployed
    return {
        "model": published.identity.name,
        "layout": serves.layout,
        "workers": serves.workers,
        "gpus": deployed.gpus,
        "fits": serves.fits,
        "fits_reason": serves.reason,
        "slots": serves.slots * serves.workers,
        "provenance": {"slots": serves.slots_provenance},
    }
