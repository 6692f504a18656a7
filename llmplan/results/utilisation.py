"""What a measured decode step makes of its GPUs, as part of ``llmplan flops``."""

from dataclasses import dataclass, field
from typing import Any, Final

from llmplan.analyze.flops import decoder_only
from llmplan.analyze.utilisation import Utilisation, decode_work, utilisation
from llmplan.errors import InputError
from llmplan.hardware.catalogue import parse_gpus
from llmplan.hardware.device import GpuGroup
from llmplan.model.compiled import Model
from llmplan.ops.moe import Experts
from llmplan.ops.routed_linear import RoutedLinear
from llmplan.parallel.precision import lowered
from llmplan.results import schema
from llmplan.results.common import Formats, check_roles
from llmplan.results.gpus_said import gpu_echo, gpu_warnings
from llmplan.units import Provenance, parse_seconds

LEAST_RATE: Final = 1e-3
MOST_RATE: Final = 1e9
"""Output tokens a second that a step may make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredStep:
    """A decode step as typed: where it ran, how long it took, what it served.

    Attributes:
        gpus: The GPU group, which holds one copy of the model.
        step_time: Time of one step, with its unit.
        tokens_per_s: Instead of it, output tokens of all requests a second.
        batch: Requests in the step; None for 1.
        formats: Precision that it ran in.
    """

    gpus: str | None = None
    step_time: str | None = None
    tokens_per_s: float | None = None
    batch: int | None = None
    formats: Formats = field(default_factory=Formats)

    @property
    def is_given(self) -> bool:
        """Whether a step is asked about."""
        return self != MeasuredStep()

    def check(self, model: Model) -> None:
        """Refuse what does not say a step.

        Raises:
            InputError: With what is missing or too much.
        """
        if not self.is_given:
            return
        if model.diffusion:
            name = model.identity.name
            raise InputError(
                f"{name} is a diffusion pipeline and decodes no tokens: leave out --gpus, "
                "--step-time, --tokens-per-s, --batch and formats."
            )
        if self.gpus is None:
            raise InputError(
                "--step-time, --tokens-per-s, --batch and formats are of a step that was measured "
                "on GPUs: add --gpus, as in --gpus 8xH100."
            )
        if self.step_time is None and self.tokens_per_s is None:
            raise InputError(
                "--gpus wants what was measured on them: add --step-time 12ms or "
                "--tokens-per-s 2500, and --batch."
            )
        if self.step_time is not None and self.tokens_per_s is not None:
            raise InputError("--step-time and --tokens-per-s both state the time: give one.")

    def found(self, model: Model, context: int) -> "FoundUtilisation":
        """The step beside its GPUs.

        Raises:
            InputError: A time, rate, format or GPU that cannot be read.
        """
        batch = 1 if self.batch is None else self.batch
        step_s = self._step_s(batch)
        group = parse_gpus(self.gpus or "")
        states = self.formats.states()
        served = decoder_only(model)
        check_roles(served, self.formats.dtype)
        served = lowered(served, self.formats.dtype, states)
        found = utilisation(decode_work(served, batch, context), group, step_s)
        inputs = {
            **gpu_echo(group),
            **self.formats.echo(states),
            "batch": batch,
            "step_s": step_s,
        }
        is_routed = any(isinstance(o, Experts | RoutedLinear) for o, _ in served.counted())
        return FoundUtilisation(found, group, inputs, is_routed)

    def _step_s(self, batch: int) -> float:
        """Time of one step, which gives each request one token."""
        if self.step_time is not None:
            return parse_seconds(self.step_time)
        rate = self.tokens_per_s or 0.0
        if not LEAST_RATE <= rate <= MOST_RATE:
            raise InputError(
                "--tokens-per-s is a number of output tokens a second, from 0.001 to "
                "1,000,000,000: --tokens-per-s 2500."
            )
        return batch / rate


@dataclass(frozen=True, slots=True)
class FoundUtilisation:
    """A step beside its GPUs, and what an answer says of it.

    Attributes:
        found: The figures.
        group: The GPUs.
        inputs: The step as inputs of a result.
        is_routed: Whether the model has routed experts, of which a step reads some.
    """

    found: Utilisation
    group: GpuGroup
    inputs: dict[str, Any]
    is_routed: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the figures should know."""
        slug = self.group.device.slug
        mfu, mbu = self.found.mfu_frac, self.found.mbu_frac
        much = "more than the peak of these GPUs: check time, batch, context, GPUs and formats."
        stand_ins = [
            f"{slug} has no known {fmt} rate: such products are counted at its {unit} rate."
            for fmt, unit in self.found.stand_ins
        ]
        unknown = ", ".join(self.found.unknown)
        remarks = (
            (mfu is not None and mfu > 1, f"MFU is {much}"),
            (mbu is not None and mbu > 1, f"MBU is {much}"),
            (unknown, f"the dense peak of {slug} in {unknown} is not known, so MFU is not either."),
            (mbu is None, f"the memory bandwidth of {slug} is not known, so MBU is not either."),
        )
        said = tuple(text for applies, text in remarks if applies)
        return (*gpu_warnings(self.group, of_memory=False), *stand_ins, *said)

    def published(self) -> schema.Utilisation:
        """As the result says it."""
        found = self.found
        compute = Provenance.ASSUMED if found.stand_ins else Provenance.MEASURED
        read = Provenance.ASSUMED if self.is_routed else Provenance.EXACT
        memory = Provenance.ASSUMED if self.is_routed else Provenance.MEASURED
        return schema.Utilisation(
            step_s=found.step_s,
            mfu_frac=found.mfu_frac,
            mbu_frac=found.mbu_frac,
            flops_per_step=found.work.flops,
            bytes_per_step=found.work.read_bytes,
            bound=found.bound,
            provenance={
                "step_s": Provenance.MEASURED,
                "mfu_frac": compute,
                "mbu_frac": memory,
                "flops_per_step": Provenance.EXACT,
                "bytes_per_step": read,
            },
        )
