"""The requests of a step in whole numbers, and what runners of token mixers have in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch

from llmplan.calibrate.kernel import Place
from llmplan.dtypes import Format
from llmplan.errors import InputError
from llmplan.ops.base import Array, Operator, Step
from llmplan.perf.operators.by_work import columns_of
from llmplan.perf.timed_attention import DECODE_TOKENS

DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
HALVES: Final = (torch.bfloat16, torch.float16)
"""What fused attention computes in; tables call both bfloat16."""
WALKED_TOKENS: Final = 1024
"""Of a prompt that is walked token by token, some ten launches each: about 50 ms on a GPU."""
SINK_LOGIT: Final = 3.0
TOLERANCE: Final = {torch.bfloat16: 1.5e-2, torch.float16: 2e-3, torch.float32: 1e-4}
"""Some roundings of the result and of weights of softmax, whose unit is 2⁻⁹, 2⁻¹² and 2⁻²⁴."""


@dataclass(frozen=True, slots=True)
class Requests:
    """One group of equal requests.

    Attributes:
        count: Requests (B).
        new_tokens: New tokens of each (T).
        context: Tokens that each holds already (S).
    """

    count: int
    new_tokens: int
    context: int

    @classmethod
    def of(cls, step: Step) -> "Requests":
        """The only group of a step.

        Raises:
            InputError: There are several, none that runs, or parts of a token.
        """
        return cls(
            _whole(step.requests, "requests", 1),
            _whole(step.new_tokens, "new tokens", 1),
            _whole(step.context, "context", 0),
        )

    @property
    def is_decode(self) -> bool:
        """Whether a cache is read once for all new tokens, as the time of a step has it."""
        return self.new_tokens <= DECODE_TOKENS

    @property
    def too_long(self) -> str:
        """Why new tokens are not walked one after the other; empty where they are."""
        if self.new_tokens <= WALKED_TOKENS:
            return ""
        return f"walks up to {WALKED_TOKENS:,} tokens one after the other, not {self.new_tokens:,}"

    @property
    def length(self) -> int:
        """Tokens of a request after the step."""
        return self.context + self.new_tokens

    @property
    def tokens(self) -> int:
        """New tokens of all."""
        return self.count * self.new_tokens


def _whole(field: Array, what: str, least: int) -> int:
    values = np.asarray(field)
    if values.size != 1 or not float(values.item()).is_integer() or values.item() < least:
        raise InputError(f"A kernel runs one group of whole {what}, at least {least}: {values}.")
    return int(values.item())


class Row(NamedTuple):
    """The first three fields of a kernel: which row of which table it is."""

    table: str
    labels: Mapping[str, str]
    columns: Mapping[str, float]


def work_row(operator: Operator, step: Step, kernel: str) -> Row:
    """The row of an operator that has no table of its own."""
    columns = {name: float(column.item()) for name, column in columns_of(operator, step).items()}
    return Row("by_work", {"kernel": kernel, "op": type(operator).__name__}, columns)


def torch_dtype(fmt: Format) -> torch.dtype | None:
    """What torch calls a format of 16 or 32 bits; None for all others."""
    return DTYPES.get(fmt.name)


def drawn(
    place: Place, generator: torch.Generator, dtype: torch.dtype, *shape: int
) -> torch.Tensor:
    """Numbers of a normal distribution."""
    return torch.randn(shape, generator=generator, device=place.device, dtype=dtype)


def drawn_sinks(
    place: Place, generator: torch.Generator, dtype: torch.dtype, heads: int
) -> torch.Tensor:
    """Sink logits, each as heavy as several keys, so that a kernel that leaves them out shows."""
    return drawn(place, generator, dtype, heads) + SINK_LOGIT
