"""Operators and formats of calibrations in few letters, and the groups that they are shown in."""

from typing import Final

PRODUCTS: Final = "Matrix products"
ATTENTION: Final = "Attention"
EXPERTS: Final = "Experts"
EXCHANGES: Final = "Exchanges between GPUs"
OTHERS: Final = "Other operators"
GROUPS: Final = (PRODUCTS, ATTENTION, EXPERTS, EXCHANGES, OTHERS)
TABLES: Final = {
    "gemm": PRODUCTS,
    "context_attention": ATTENTION,
    "generation_attention": ATTENTION,
    "mla": ATTENTION,
    "mla_module": ATTENTION,
    "moe": EXPERTS,
    "moe_a2a": EXCHANGES,
    "collectives": EXCHANGES,
    "network": EXCHANGES,
}
"""Group of each operator table; operators that are timed by their work have none."""
SHORT: Final = (
    ("context_attention", "context"),
    ("generation_attention", "generation"),
    ("collectives ", ""),
    ("network ", ""),
)
"""What the heading of a group says already."""


def group_of(kind: str) -> str:
    """The heading that an operator is shown under."""
    return TABLES.get(kind.partition(" ")[0], OTHERS)


def operator_words(kind: str) -> str:
    """An operator under the heading of its group."""
    for long, short in SHORT:
        kind = kind.replace(long, short)
    return kind


def format_words(name: str) -> str:
    """A format as elsewhere; that of weights and of the cache once where they are the same."""
    short = name.replace("bfloat16", "bf16").replace("float16", "fp16")
    weights, _, cache = short.partition("/")
    return (weights if weights == cache else short) or "-"
