"""FLOPs of a token, or of an image."""

from llmplan.results.schema.common import Explanation, Published
from llmplan.units import Provenance


class FlopsBreakdown(Published):
    """FLOPs per token of one phase by unit."""

    matmul: float
    """Products with weights."""
    attention: float
    """Scores and values; the recurrence of linear attention."""
    convolution: float
    """Short convolutions."""
    scan: float
    """State-space scans; not part of the total."""
    vector: float
    """Norms, activations, softmax, rotary; not part of the total."""


class FlopsPerToken(Published):
    """Totals: matmuls, attention and convolutions."""

    decode: float
    """One new token attending to context + 1 keys."""
    prefill: float
    """Mean over a prompt of the context, output head at the last position only."""
    decode_absorbed: float
    """Decode with absorbed MLA, as serving engines run it; equal to decode without MLA."""


class ImagePart(Published):
    """FLOPs of one part of a diffusion pipeline for one image."""

    runs: int
    """How often it runs."""
    flops: float
    """Matmuls, attention and convolutions of all runs."""
    per_run: FlopsBreakdown
    """FLOPs of one run by unit."""


class FlopsResult(Published):
    """``llmplan flops``."""

    model: str
    """Catalogue name."""
    flops_per_token: FlopsPerToken
    """Totals."""
    breakdown: dict[str, FlopsBreakdown]
    """By phase: decode, prefill, decode_absorbed."""
    flops_per_step: float | None = None
    """Of a diffusion pipeline: the transformer in one denoising step of one image."""
    flops_per_image: float | None = None
    """Of a diffusion pipeline: all parts as often as they run for one image."""
    image_components: dict[str, ImagePart] = {}
    """Of a diffusion pipeline: its parts."""
    provenance: Provenance
    """exact: counted, not measured."""
    explain: list[Explanation] = []
    """Where each number comes from, on request."""
