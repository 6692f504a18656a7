"""Fused kernels of optional packages for recurrences and convolutions, on CUDA devices.

They read the inputs of the runners of torch's plain arithmetic, and return the same.

Source: flash-linear-attention, fla.ops.gated_delta_rule; Dao-AILab/causal-conv1d,
causal_conv1d_interface.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Final

import torch

from llmplan.calibrate.kernel import Place

FLA_CHUNK: Final = 64
"""Chunk length of fla's kernel where none is given."""
CONVOLUTION_TAPS: Final = (2, 3, 4)
"""Filter lengths that causal-conv1d is built for."""
CHANNELS_ALIGNED: Final = 8
"""Its channels come in multiples of this where they lie innermost."""


def missing(package: str, place: Place) -> str:
    """Why a package does not run; empty where it does."""
    if not place.is_cuda:
        return f"{package} needs a CUDA device"
    return "" if find_spec(package) else f"{package} is not installed"


def joined(*parts: torch.Tensor) -> torch.Tensor:
    """Outputs and states in one row, as wide as the widest of them."""
    return torch.cat([part.reshape(-1) for part in parts])


def gated_delta_rule(
    name: str, gates: Callable[..., tuple[torch.Tensor, torch.Tensor]]
) -> Callable[..., torch.Tensor]:
    """``chunk_`` or ``fused_recurrent_gated_delta_rule`` of fla; keys are repeated for value heads.

    ``gates`` makes log decay and β, both [B, T, H, 1], of what follows the values in the inputs.
    """
    kernel = getattr(import_module("fla.ops.gated_delta_rule"), name)

    def run(*parts: torch.Tensor) -> torch.Tensor:
        q, k, v, *weights, state = parts
        repeats = v.shape[2] // q.shape[2]
        g, beta = gates(*weights, dtype=torch.float32)
        outputs, left = kernel(
            q=q.repeat_interleave(repeats, 2),
            k=k.repeat_interleave(repeats, 2),
            v=v,
            g=g.squeeze(-1),
            beta=beta.squeeze(-1).to(v.dtype),
            scale=1.0,
            initial_state=state,
            output_final_state=True,
        )
        return joined(outputs, left.to(state.dtype))

    return run


def no_convolution(taps: int, channels: int, place: Place) -> str:
    """Why causal-conv1d does not run; empty where it does."""
    if taps not in CONVOLUTION_TAPS:
        return f"causal_conv1d has no filters of {taps} taps"
    if channels % CHANNELS_ALIGNED:
        return f"causal_conv1d has no {channels} channels: they come in eights"
    return missing("causal_conv1d", place)


def convolution() -> Callable[..., torch.Tensor]:
    """``causal_conv1d_fn``, with channels innermost."""
    kernel = import_module("causal_conv1d").causal_conv1d_fn

    def run(*parts: torch.Tensor) -> torch.Tensor:
        x, filters, *bias, columns = parts
        outputs, left = kernel(
            x=x.mT,
            weight=filters,
            bias=bias[0] if bias else None,
            initial_states=columns.to(x.dtype).mT.contiguous().mT,
            return_final_states=True,
        )
        return joined(outputs, left.to(columns.dtype))

    return run
