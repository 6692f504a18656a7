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


class Utilisation(Published):
    """A measured decode step beside the peak rates of the GPUs that ran it."""

    step_s: float
    """Time of one step: as given, or batch over tokens per second."""
    mfu_frac: float | None
    """Model FLOPs utilisation: FLOPs of the step over time x GPUs x dense peak of the format;
    several formats by the time that each takes at its peak. Null where a peak is not known."""
    mbu_frac: float | None
    """Model bandwidth utilisation: bytes of the step over time x GPUs x memory bandwidth. Null
    where the bandwidth is not known."""
    flops_per_step: float
    """FLOPs that the model asks for: matmuls, attention and convolutions for one new token of each
    request, attending to context + 1 keys; latent attention as defined, not absorbed."""
    bytes_per_step: float
    """Bytes that the model asks for: weights of one copy and state of every request, each read
    once; of routed experts those that evenly routed tokens hit. Nothing written, no
    activations."""
    bound: str | None
    """compute or memory: which of the two would take longer at peak. Null where either is not
    known."""
    provenance: dict[str, Provenance]
    """Of each figure."""


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
    utilisation: Utilisation | None = None
    """What a measured decode step makes of the GPUs, where they and its time are given."""
    provenance: Provenance
    """exact: counted, not measured."""
    explain: list[Explanation] = []
    """Where each number comes from, on request."""
