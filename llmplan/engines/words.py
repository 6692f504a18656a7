"""Formats in the words of engines, logs and measured rows, as llmplan's own names."""

import re
from typing import Final

WEIGHT_WORDS: Final = tuple(
    (re.compile(pattern), formats)
    for pattern, formats in (
        (r"^gguf ", ""),
        (r"native", "native"),
        (
            r"^(fp32|float32)",
            "attention=fp32,ffn=fp32,embedding=fp32,head=fp32,norm=fp32,bias=fp32",
        ),
        (r"^(bf16|bfloat16|fp16|float16|half)", "bf16"),
        (r"^fp8[- ]dynamic|^fp8.*compressed|^fp8_channel|^ptpc_fp8", "fp8_channel"),
        (r"^fp8[_ ]tensor|^modelopt$", "fp8_tensor"),
        (r"^fp8|^fbgemm_fp8", "fp8"),
        (r"^w8a8|^int8", "int8"),
        (r"^mxfp4", "mxfp4"),
        (r"^nvfp4|^modelopt_fp4", "nvfp4"),
        (r"^bnb|^bitsandbytes", "nf4"),
        (r"^awq", "int4_awq"),
        (r"^gptq", "int4_gptq"),
        (r"^int4|^w4a16|^compressed", "int4_sym"),
    )
)
"""Beginnings of what is said of weights; int4 without the size of its groups."""

INT4_GROUPS: Final = (128, 64, 32)
"""Group sizes to try where none is said, the usual one first: a split must not cut a group."""
_KV_WORDS: Final = (
    (re.compile(r"fp8_ds_mla"), "fp8_ds_mla"),
    (re.compile(r"^K (\S+) / V (\S+)"), r"\1/\2"),
    (re.compile(r"^auto \((bf16|fp16|fp32)\)"), r"\1"),
    (re.compile(r"^auto|^16-bit|^$"), "bf16"),
    (re.compile(r"^(fp8|nvfp4|bf16|fp16|f16|fp32|q\d_\d|iq4_nl)"), r"\1"),
)


def weight_words(text: str) -> str | None:
    """``--dtype`` for what is said of weights; empty for GGUF, None where it is not known."""
    low = text.strip().lower()
    return next((formats for pattern, formats in WEIGHT_WORDS if pattern.search(low)), None)


def kv_words(text: str) -> str | None:
    """``--kv-dtype`` for what is said of a cache; None where nothing is known of it."""
    said = text.strip()
    for pattern, name in _KV_WORDS:
        if match := pattern.search(said):
            return match.expand(name)
    return None
