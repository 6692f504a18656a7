"""How many FLOPs a token takes."""

from dataclasses import asdict, dataclass, field
from typing import Final

from llmplan.analyze.explain import Explained, explained_flops
from llmplan.analyze.explain_image import explained_image
from llmplan.analyze.flops import FlopsReport, TokenFlops, flops_report
from llmplan.analyze.image import Image, ImageFlops, image_flops
from llmplan.errors import InputError
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Diffusion, Model
from llmplan.ops.counting import as_full_square
from llmplan.results import schema
from llmplan.results.common import Said, context_tokens, context_warnings, explanations
from llmplan.results.utilisation import MeasuredStep
from llmplan.units import Provenance

GUIDANCE: Final = ("off", "true-cfg")
"""Without and with a second, negative prompt; guidance distilled into the model is no extra run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """What a diffusion pipeline makes; None for what it is published for."""

    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: str = "off"

    def chosen(self, diffusion: Diffusion) -> Image:
        """The image to make.

        Raises:
            InputError: A guidance that is not known.
        """
        if self.guidance not in GUIDANCE:
            raise InputError(f"guidance is one of {', '.join(GUIDANCE)}.")
        return Image(
            self.width or diffusion.image_size,
            self.height or diffusion.image_size,
            self.steps or diffusion.num_inference_steps,
            self.guidance == "true-cfg",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FlopsQuestion:
    """FLOPs per token of one model at one context, or of one image of a pipeline.

    Attributes:
        model: The model.
        context: Tokens per request.
        full_square: Count masked pairs too.
        explain: Derive each figure.
        image: What a pipeline makes.
        measured: A decode step that was measured on GPUs.
    """

    model: str
    context: str | None = None
    full_square: bool = False
    explain: bool = False
    image: ImageOptions = field(default_factory=ImageOptions)
    measured: MeasuredStep = field(default_factory=MeasuredStep)

    def ask(self) -> schema.Envelope:
        """The answer; exact counts.

        Raises:
            InputError: Options of images for a language model, or of tokens for a pipeline; a
                measured step without its GPUs or its time.
        """
        model = load_model(self.model)
        self.measured.check(model)
        if model.diffusion:
            return self._of_an_image(model, model.diffusion)
        if self.image != ImageOptions():
            name = model.identity.name
            raise InputError(f"{name} makes no images: leave out --width, --height, --steps and "
                             "--guidance.")  # fmt: skip
        context = context_tokens(self.context, model.context_length)
        counted = model.rewritten(as_full_square) if self.full_square else model
        rows = explained_flops(counted, context) if self.explain else ()
        inputs = {
            "model": model.identity.name,
            "context": context,
            "full_square": self.full_square,
        }
        result = flops_result(counted, flops_report(counted, context), rows)
        warnings = context_warnings(model, context)
        if self.measured.is_given:
            found = self.measured.found(model, context)
            inputs |= found.inputs
            warnings += found.warnings
            result = result.model_copy(update={"utilisation": found.published()})
        return Said("flops", inputs, warnings).answered(result)

    def _of_an_image(self, model: Model, diffusion: Diffusion) -> schema.Envelope:
        name = model.identity.name
        if self.context is not None:
            raise InputError(f"{name} is a diffusion pipeline: --context does not apply to it.")
        image = self.image.chosen(diffusion)
        counted = model.rewritten(as_full_square) if self.full_square else model
        found = image_flops(counted, diffusion, image)
        inputs = {
            "model": name,
            "full_square": self.full_square,
            "width": image.width,
            "height": image.height,
            "steps": image.steps,
            "guidance": self.image.guidance,
            "prompt_tokens": diffusion.prompt_tokens,
        }
        remark = f"{name} is a diffusion pipeline: it has FLOPs per image and none per token."
        said = Said("flops", inputs, (*model.identity.assumptions, remark))
        rows = explained_image(counted, diffusion, image) if self.explain else ()
        per_token = flops_result(model, flops_report(model, 1), rows)
        return said.answered(per_token.model_copy(update=_image_figures(found)))


def _image_figures(found: ImageFlops) -> dict[str, object]:
    """What the result says of an image beside figures per token, which are 0."""
    parts = {
        part.value: schema.ImagePart(runs=runs, flops=flops.total * runs, per_run=_breakdown(flops))
        for part, flops, runs in found.parts
    }
    return {
        "flops_per_step": found.per_step,
        "flops_per_image": found.per_image,
        "image_components": parts,
    }


def flops_result(
    model: Model, report: FlopsReport, explained: tuple[Explained, ...]
) -> schema.FlopsResult:
    """``llmplan flops``."""
    return schema.FlopsResult(
        model=model.identity.name,
        flops_per_token=schema.FlopsPerToken(
            decode=report.decode.total,
            prefill=report.prefill.total,
            decode_absorbed=report.decode_absorbed.total,
        ),
        breakdown={
            "decode": _breakdown(report.decode),
            "prefill": _breakdown(report.prefill),
            "decode_absorbed": _breakdown(report.decode_absorbed),
        },
        provenance=Provenance.EXACT,
        explain=explanations(explained),
    )


def _breakdown(flops: TokenFlops) -> schema.FlopsBreakdown:
    return schema.FlopsBreakdown(**asdict(flops))
