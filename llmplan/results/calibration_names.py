"""Kernels of a profile in the words of an answer."""

from typing import Final

from llmplan.perf.kernels import Labels
from llmplan.perf.operators.by_work import BY_WORK

KERNEL_LABELS: Final = ("kernel", "backend", "topology", "model")


def kind_of(operator: str, labels: Labels) -> str:
    """Operator table, with what else tells the work apart."""
    if operator == BY_WORK.name:
        return labels["op"]
    said = [labels[name] for name in ("phase", "op") if labels.get(name)]
    return " ".join((operator, *said))


def format_of(labels: Labels) -> str:
    """Of weights and activations, and of the cache where there is one."""
    return "/".join(labels[name] for name in ("dtype", "kv_dtype") if labels.get(name))


def kernel_of(labels: Labels) -> str:
    """What ran; of tables that name no kernel, what they tell work apart by instead."""
    return next((labels[name] for name in KERNEL_LABELS if labels.get(name)), "")
