"""How fast a deployment serves its traffic."""

from datetime import date
from typing import Literal

from llmplan.results.schema.common import Explanation, Published
from llmplan.units import Provenance


class Estimated(Published):
    """A figure with the range that eight of ten like measurements fell into."""

    low: float
    """10th percentile of like measurements."""
    value: float
    """The estimate."""
    high: float
    """90th percentile."""
    provenance: Provenance
    """fitted where the engine, GPU and kind of model were measured together, else assumed."""
    note: str
    """What the range was taken from."""


class BoundShare(Published):
    """Share of a step's time by what decides it, without what only a measured factor explains."""

    compute: float
    """Arithmetic units."""
    memory: float
    """Memory bandwidth."""
    network: float
    """Links between GPUs."""
    launch: float
    """Latency: launches of kernels and short messages, and host work."""


class StepRow(Published):
    """One step of one worker."""

    seconds: float
    """Its time: kernels, collectives and host work one after the other."""
    requests: float
    """Requests in it, of one worker."""
    tokens: float
    """New tokens in it, of one worker."""
    context: float
    """Tokens that a request holds: the mean while it decodes, the whole prompt at its end."""
    mfu_frac: float
    """Arithmetic of the rank that has most to do at dense peak, over the time; work that ranks
    repeat counts."""
    mbu_frac: float
    """Its weights and state at the memory bandwidth, over the time."""
    roofline_s: float
    """Every kernel and collective at its largest bound, one after the other."""
    host_s: float
    """What is no kernel: host work, launches between kernels, the measured factor."""
    leftover_times: float
    """Measured over predicted of like deployments, a factor that is in the time."""
    bound_share: BoundShare
    """What decides its time."""
    provenance: Provenance
    """Of the time: the weakest of its rows."""


class Steps(Published):
    """The two kinds of step that serving is made of, each by itself."""

    decode: StepRow
    """A decode step with as many requests as decode at once, without prompts."""
    prefill: StepRow
    """A prompt that nothing stands before, with all its chunks."""


class OperatorRow(Published):
    """All calls of one operator in a step on the fullest rank, or a part of the host's work."""

    step: Literal["decode", "prefill"]
    """Which step."""
    name: str
    """Operators of the model, as one kernel runs them."""
    kind: str
    """gemm, attention, experts, vector, collective and so on; host for what is no kernel."""
    count: int
    """Calls in the step, all stages."""
    seconds: float
    """Time of all calls."""
    share_frac: float
    """Of the step."""
    bound: Literal["compute", "memory", "network", "launch"]
    """What decides its time."""
    compute_s: float
    """Its arithmetic at the dense peak of its format."""
    memory_s: float
    """Its weights and state at the memory bandwidth."""
    network_s: float
    """Its messages at the rate of the link."""
    flops: float
    """Matmuls, attention and convolutions."""
    bytes: float
    """Between memory and chip, activations included."""
    efficiency_frac: float | None
    """The largest of its three bounds over its time; null where none is counted."""
    provenance: Provenance
    """measured where a calibration of this device timed it, fitted where published tables of this
    GPU and engine have it, else assumed."""
    note: str
    """What stands for what, where it is assumed."""


class Roof(Published):
    """One roof of the roofline plot."""

    format: str
    """Format of the operands."""
    flops_per_s: float
    """Dense peak of one GPU."""
    bytes_per_s: float
    """Its memory bandwidth."""
    provenance: Provenance
    """Of the two figures."""
    source: str
    """Where they come from."""


class RooflinePoint(Published):
    """One operator in the roofline plot."""

    step: Literal["decode", "prefill"]
    """Which step."""
    name: str
    """The operator."""
    flops_per_byte: float
    """Arithmetic intensity: FLOPs over bytes of weights, state and activations."""
    flops_per_s: float
    """What it reaches on one GPU."""
    provenance: Provenance
    """Of the time that it follows from."""


class Roofline(Published):
    """What a roofline plot needs."""

    roofs: list[Roof]
    """Peaks of the formats that the model is multiplied in."""
    points: list[RooflinePoint]
    """Operators that do arithmetic."""


class Energy(Published):
    """What the GPUs draw; hosts, network and cooling are not in it."""

    gpu_w: Estimated
    """Draw of one GPU while it serves."""
    joules_per_output_token_j: Estimated
    """Of all GPUs."""


class SloRow(Published):
    """A bound on a latency, and whether it is held."""

    metric: Literal["ttft_s", "tpot_s"]
    """What is bounded."""
    limit_s: float
    """The bound."""
    is_met: bool
    """Whether the estimate is within it."""
    is_low_met: bool
    """Whether the low end of the range is: where it is not, like measurements were all slower."""


class SweepRow(Published):
    """The figures at one concurrency."""

    concurrency: float
    """Requests in flight."""
    ttft_s: Estimated
    """Time to the first token."""
    tpot_s: Estimated
    """Time between further tokens of a request."""
    output_tokens_per_s: Estimated
    """Of the deployment."""
    output_tokens_per_s_per_gpu: Estimated
    """Of one GPU."""
    waiting: float
    """Requests that wait for a place, of the deployment."""


class Uncalibrated(Published):
    """What the same question is answered with from published tables alone."""

    ttft_s: float | None
    """Time to the first token; null where it is overloaded."""
    tpot_s: float | None
    """Time between further tokens; null likewise."""
    output_tokens_per_s: float
    """Of the deployment."""


class UsedCalibration(Published):
    """The calibration profile that kernels were timed by."""

    profile: str
    """File."""
    device: str
    """Device that it was measured on."""
    date: date
    """When."""
    kernels: int
    """Kernels that it holds."""
    layers: int
    """Whole layers that were kept out of its fit."""
    layer_median_error_frac: float | None
    """Of these, predicted against measured, the median of absolute errors; null without layers."""
    layer_p90_error_frac: float | None
    """90th percentile."""
    uncalibrated: Uncalibrated
    """The same figures without it."""


class EstimateResult(Published):
    """``llmplan estimate``."""

    model: str
    """Catalogue name."""
    layout: str
    """How it is split, and how often it stands."""
    workers: int
    """Copies that decode."""
    gpus: int
    """GPUs at work, those for prompts among them."""
    fits: bool
    """Whether the engine starts and a request of these tokens fits; if not, there are no times."""
    fits_reason: str
    """What stops it, or would stop it next."""
    slots: int
    """Requests that run at once in the deployment: what memory holds, at half their output unless
    the engine reserves all of it, or the engine's limit."""
    ttft_s: Estimated | None = None
    """Time to the first token, waiting included; null where it does not fit or is overloaded."""
    tpot_s: Estimated | None = None
    """Time between further tokens of a request; null likewise."""
    e2e_s: Estimated | None = None
    """A whole request; null likewise."""
    output_tokens_per_s: Estimated | None = None
    """Of the deployment; the most it can serve where the rate is beyond that."""
    output_tokens_per_s_per_gpu: Estimated | None = None
    """Of one GPU, those for prompts counted."""
    requests_per_s: float | None = None
    """Of the deployment."""
    input_tokens_per_s: float | None = None
    """Prompt tokens of the deployment, cached ones included."""
    decoding: float | None = None
    """Requests that decode at once on one worker, in the mean."""
    waiting: float | None = None
    """Requests of the deployment that wait for a place, in the mean."""
    is_overloaded: bool = False
    """Whether requests arrive faster than they can be served."""
    steps: Steps | None = None
    """A decode step and a prompt, each by itself."""
    operators: list[OperatorRow] = []
    """Where the time of the two goes; shares of each add up to 1."""
    roofline: Roofline | None = None
    """Points and roofs of the roofline plot."""
    energy: Energy | None = None
    """Draw and energy; null where the power of the device is not known."""
    calibration: UsedCalibration | None = None
    """Measurements of the very device that were used; null where there are none."""
    provenance: dict[str, Provenance] = {}
    """Of the figures that have no range."""
    slo: list[SloRow] = []
    """Bounds that were asked for."""
    sweep: list[SweepRow] = []
    """One row a concurrency, where several were given; the rest is of the last."""
    explain: list[Explanation] = []
    """How the times come about, on request."""

    @property
    def is_no(self) -> bool:
        """Whether the answer is no."""
        return not self.fits or self.is_overloaded or not all(row.is_met for row in self.slo)
