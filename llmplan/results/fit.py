"""What fits on a group of GPUs."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from llmplan.analyze.arrange import Wanted
from llmplan.analyze.explain_memory import explained_deployment
from llmplan.analyze.fit import (
    SHOWN_CONTEXTS,
    Answer,
    Binding,
    Deployment,
    Question,
    Refusal,
    answer,
)
from llmplan.analyze.memory import Load, weights_bytes
from llmplan.analyze.suggest import Suggestion, suggestions
from llmplan.engines.corrections import Correction
from llmplan.engines.profile import Profile
from llmplan.engines.settings import EngineName
from llmplan.errors import InputError, LayoutError
from llmplan.hardware.catalogue import parse_gpus
from llmplan.hardware.device import GpuGroup
from llmplan.model.catalogue import load_model, model_names
from llmplan.model.compiled import Model
from llmplan.parallel.precision import NATIVE, weight_formats, with_weight_formats
from llmplan.results import schema
from llmplan.results.beside import beside_rows, beside_warnings, host_memory
from llmplan.results.beside_options import BesideOptions
from llmplan.results.common import (
    DEFAULT_CONTEXT,
    Formats,
    Said,
    check_roles,
    context_warnings,
    explanations,
    model_warnings,
)
from llmplan.results.engine_options import EngineOptions, LayoutOptions
from llmplan.results.engine_said import engine_echo, engine_states, engine_warnings
from llmplan.results.gpus_said import gpu_echo, gpu_warnings
from llmplan.results.kept_corrections import corrections_said, kept_corrections
from llmplan.units import parse_tokens

CATALOGUE_FORMATS: Final = ("fp8", "int4")
"""Weight formats tried beside the published one, where they are smaller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitQuestion:
    """Which models fit on these GPUs, or how one of them does.

    Attributes:
        gpus: The GPU group.
        model: One model; without it, the whole catalogue.
        formats: Precision. ``dtype`` ``native`` means, for the catalogue, smaller formats as well.
        context: Tokens per request.
        batch: Requests that must fit.
        layout: What is asked of the layout; every legal one is looked at otherwise.
        engine: The engine and how it is started.
        text_only: Leave vision towers out.
        explain: Derive the figures of the best layout of one model.
        corrections: Use what ``llmplan reconcile --save`` kept.
        beside: What is held beside the model, and what stays in host memory.
    """

    gpus: str
    model: str | None = None
    formats: Formats = field(default_factory=Formats)
    context: str | None = None
    batch: int = 1
    layout: LayoutOptions = field(default_factory=LayoutOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    text_only: bool = False
    explain: bool = False
    corrections: bool = True
    beside: BesideOptions = field(default_factory=BesideOptions)

    def ask(self) -> schema.Envelope:
        """The answer: one row per layout of a model, or per model and format of the catalogue.

        Raises:
            InputError: An option cannot be read.
        """
        group = parse_gpus(self.gpus)
        if self.explain and self.model is None:
            raise InputError("--explain derives the figures of one model: name it.")
        if self.beside.draft and self.model is None:
            raise InputError("--draft goes with one model: name it.")
        if self.model is not None:
            return self._one(load_model(self.model), group)
        profile = self.engine.profile()
        rows = [row for name in model_names() for row in self._best_rows(load_model(name), group)]
        inputs = self._inputs(
            group, parse_tokens(self.context) if self.context else DEFAULT_CONTEXT
        )
        inputs["context_rule"] = "at most the model's own maximum"
        inputs["dtypes"] = self._dtype_words()
        warnings = gpu_warnings(group) + engine_warnings(profile, None)
        said = Said("fit", inputs, warnings + self._corrected(profile, group))
        return said.answered(schema.FitResult(deployments=rows))

    def _one(self, model: Model, group: GpuGroup) -> schema.Envelope:
        check_roles(model, self.formats.dtype)
        self.beside.check(model)
        found = answer(self._question(model, group, self.formats.dtype))
        rows = [deployment_row(found, deployment) for deployment in found.deployments]
        rows += [refusal_row(found, refusal) for refusal in found.refusals]
        if not rows:
            raise LayoutError(f"{self._wanted().options} does not go on {group}.")
        if not found.fits:
            tried = [try_row(suggestion) for suggestion in suggestions(found)]
            rows[0] = rows[0].model_copy(update={"try_": tried})
        load, profile = self._load(model), found.question.profile
        engine = profile.engine is not EngineName.GENERIC
        warnings = (
            *context_warnings(model, load.context),
            *model_warnings(model, mtp=False, engine=engine),
            *gpu_warnings(group),
            *engine_warnings(profile, found.best),
            *self._corrected(profile, group),
            *beside_warnings(found.best, found.question.beside, group),
        )
        inputs = self._inputs(group, load.context)
        inputs |= self.beside.echo(found.question.beside)
        inputs |= self.formats.echo(found.question.states)
        inputs |= engine_echo(profile, found.best)
        said = Said("fit", inputs, warnings)
        derived = (
            explained_deployment(found.best, group.device) if self.explain and found.best else ()
        )
        return said.answered(schema.FitResult(deployments=rows, explain=explanations(derived)))

    def _best_rows(self, model: Model, group: GpuGroup) -> Iterator[schema.DeploymentRow]:
        """The best layout of each weight format, the published one first."""
        tried = (NATIVE, *smaller_formats(model)) if self._is_native else (self.formats.dtype,)
        for dtype in tried:
            found = answer(replace(self._question(model, group, dtype), best_only=True))
            yield (
                deployment_row(found, found.best)
                if found.best
                else refusal_row(found, found.refusals[0])
            )

    @property
    def _is_native(self) -> bool:
        return self.formats.dtype == NATIVE

    def _dtype_words(self) -> list[str]:
        return [NATIVE, *CATALOGUE_FORMATS] if self._is_native else [self.formats.dtype]

    def _question(self, model: Model, group: GpuGroup, dtype: str) -> Question:
        profile = self.engine.profile()
        taken, _why = engine_states(profile, model)
        states = self.formats.states(taken)
        settings = self.beside.settings(self.engine.settings())
        return Question(
            model=model.served(vision=not self.text_only),
            weights=dtype,
            states=states,
            group=group,
            load=self._load(model),
            wanted=self._wanted(),
            profile=profile,
            settings=settings,
            beside=self.beside.beside(settings, profile, states),
            corrections=self._kept(profile),
        )

    def _kept(self, profile: Profile) -> tuple[Correction, ...]:
        return kept_corrections(profile.engine) if self.corrections else ()

    def _corrected(self, profile: Profile, group: GpuGroup) -> tuple[str, ...]:
        return corrections_said(self._kept(profile), profile, group.device.slug)

    def _wanted(self) -> Wanted:
        return self.layout.wanted(every=True)

    def _load(self, model: Model) -> Load:
        return Load(self.engine.context(self.context, model), self.batch)

    def _inputs(self, group: GpuGroup, context: int) -> dict[str, object]:
        return {
            "model": self.model,
            **gpu_echo(group),
            **engine_echo(self.engine.profile(), None),
            **self.formats.echo(),
            "context": context,
            "batch": self.batch,
            **self.layout.echo(),
            "text_only": self.text_only,
            "mtp": False,
            "corrections": self.corrections,
        }


def smaller_formats(model: Model) -> tuple[str, ...]:
    """Formats that store the model in fewer bytes than it is published in."""
    published = weights_bytes(model)
    return tuple(
        name
        for name in CATALOGUE_FORMATS
        if weights_bytes(with_weight_formats(model, weight_formats(name))) < published
    )


def deployment_row(found: Answer, deployment: Deployment) -> schema.DeploymentRow:
    """One deployment."""
    return schema.DeploymentRow(
        **_names(found),
        layout=str(deployment.arrangement),
        fits=deployment.fits,
        weights_bytes_per_gpu=deployment.weights_bytes,
        kv_available_bytes_per_gpu=deployment.pool_bytes,
        max_context=deployment.max_context,
        kv_tokens=deployment.kv_tokens,
        max_concurrency=deployment.max_concurrency,
        concurrency_at={str(c): deployment.concurrency_at(c) for c in SHOWN_CONTEXTS},
        binding=deployment.binding.value,
        reason=deployment.reason,
        beside=beside_rows(deployment),
        host=host_memory(deployment),
    )


def refusal_row(found: Answer, refusal: Refusal) -> schema.DeploymentRow:
    """A layout that the model does not split into."""
    return schema.DeploymentRow(
        **_names(found),
        layout=str(refusal.arrangement),
        fits=False,
        weights_bytes_per_gpu=0,
        kv_available_bytes_per_gpu=0,
        max_context=0,
        kv_tokens=0,
        max_concurrency=0,
        concurrency_at=dict.fromkeys(map(str, SHOWN_CONTEXTS), 0),
        binding=Binding.LAYOUT.value,
        reason=refusal.reason,
    )


def _names(found: Answer) -> dict[str, str]:
    question = found.question
    return {
        "model": question.model.identity.name,
        "dtype": question.weights,
        "kv_dtype": question.states.kv.name,
    }


def try_row(suggestion: Suggestion) -> schema.TryRow:
    """A change that fits."""
    best = suggestion.answer.deployments[0]
    return schema.TryRow(
        change=suggestion.change,
        option=suggestion.option,
        layout=str(best.arrangement),
        max_context=best.max_context,
        max_concurrency=best.max_concurrency,
    )
