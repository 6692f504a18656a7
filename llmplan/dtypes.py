"""Element formats: stored bits, block scales, and the one rounding rule ``bytes_for``.

A format says how a matrix is *stored*. Scales, zero points and block headers count, so that stored
bytes equal those of a published checkpoint. The last axis of a shape is the input axis (the one a
matmul reduces over), as in ``torch.nn.Linear.weight``; leading axes beyond two stack matrices.
"""

import re
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from llmplan.errors import InputError, UnknownNameError, printable


@dataclass(frozen=True, slots=True)
class Format:
    """How the elements of a matrix are stored.

    Attributes:
        name: The name accepted by ``--dtype``.
        bits: Stored bits of one element, without scales.
        compute: The unit whose rate a matmul with such weights runs at (key of a device's peaks).
        block: Rows (output) and columns (input) that share one scale; 0 means the whole axis.
        block_bits: Bits of scale, zero point and header of each block.
        matrix_bits: Bits stored once a matrix (a tensor-wide scale).
        column_bits: Bits stored once an input column (GPTQ's group index).
        keeps_blocks: A split over ranks may not cut a block: engines refuse such a layout.
        note: What the reader should know, with the source of the layout.
    """

    name: str
    bits: int
    compute: str
    block: tuple[int, int] | None = None
    block_bits: int = 0
    matrix_bits: int = 0
    column_bits: int = 0
    keeps_blocks: bool = False
    note: str = ""

    def __hash__(self) -> int:
        """Names are unique, and precision is hashed for every operator that is folded."""
        return hash(self.name)

    @property
    def bits_per_weight(self) -> float:
        """Bits an element of a large matrix costs, scales included."""
        rows, columns = self.block or (0, 0)
        per_block = rows * columns
        return self.bits + (self.block_bits / per_block if per_block else 0.0)


def divide_exactly(whole: int, parts: int, what: str = "size") -> int:
    """``whole / parts`` where it must come out even.

    Raises:
        InputError: It does not.
    """
    if parts < 1 or whole % parts:
        raise InputError(f"{what} {whole} does not divide by {parts}.")
    return whole // parts


def divide_up(whole: int, parts: int) -> int:
    """The least integer not below ``whole / parts``."""
    return -(-whole // parts)


def bytes_for(shape: tuple[int, ...], fmt: Format) -> int:
    """Bytes that a tensor of ``shape`` takes in ``fmt``, scales included.

    Every matrix of a stack is rounded up to whole bytes by itself, as files store it. A vector is a
    matrix of one row.
    """
    columns = shape[-1] if shape else 1
    rows = shape[-2] if len(shape) > 1 else 1
    matrices = prod(shape[:-2]) if len(shape) > 2 else 1
    bits = rows * columns * fmt.bits + fmt.matrix_bits + columns * fmt.column_bits
    bits += scale_entries((rows, columns), fmt) * fmt.block_bits
    return matrices * divide_up(bits, 8)


def scale_entries(shape: tuple[int, ...], fmt: Format) -> int:
    """Scales that a tensor of ``shape`` stores beside its elements, counted as entries."""
    if not fmt.block:
        return 0
    columns = shape[-1] if shape else 1
    rows = shape[-2] if len(shape) > 1 else 1
    matrices = prod(shape[:-2]) if len(shape) > 2 else 1
    block_rows, block_columns = fmt.block[0] or rows, fmt.block[1] or columns
    return matrices * divide_up(rows, block_rows) * divide_up(columns, block_columns)


def _plain(name: str, bits: int, compute: str | None = None, note: str = "") -> Format:
    return Format(name, bits, compute or name, note=note)


def _gguf(name: str, block: int, block_bytes: int) -> Format:
    """A GGUF tensor type: whole blocks along a row, headers beyond the element bits."""
    bits = block_bytes * 8 // block
    return Format(
        name,
        bits,
        "fp16",
        (1, block),
        block_bytes * 8 - bits * block,
        note=f"GGUF tensor type, {block_bytes} bytes per {block} elements (ggml-common.h)",
    )


FP32: Final = _plain("fp32", 32)
TF32: Final = _plain("tf32", 32, note="stored as fp32; matmuls run in the TF32 unit")
BF16: Final = _plain("bf16", 16)
FP16: Final = _plain("fp16", 16)
FP8: Final = Format(
    "fp8", 8, "fp8", (128, 128), 32, keeps_blocks=True,
    note="e4m3, one fp32 scale per 128x128 block (DeepSeek-V3 checkpoints)",
)  # fmt: skip
MXFP4: Final = Format("mxfp4", 4, "bf16", (1, 32), 8, note="e2m1, one e8m0 byte per 32 (OCP MX)")
NVFP4: Final = Format(
    "nvfp4", 4, "fp4", (1, 16), 8, 32, note="e2m1, one e4m3 byte per 16 and one fp32 per tensor"
)

_FORMATS: Final = (
    FP32, TF32, BF16, FP16, FP8,
    Format("fp8_tensor", 8, "fp8", matrix_bits=32, note="e4m3, one fp32 scale per tensor"),
    Format("fp8_channel", 8, "fp8", (1, 0), 32, note="e4m3, one fp32 scale per output channel"),
    Format("fp8_e5m2", 8, "fp8", matrix_bits=32, note="e5m2, one fp32 scale per tensor"),
    Format("int8", 8, "int8", (1, 0), 32, note="W8A8, one fp32 scale per output channel"),
    Format("nf4", 4, "bf16", (1, 64), 32, note="bitsandbytes 4-bit, one fp32 scale per 64"),
    Format("mxfp8", 8, "fp8", (1, 32), 8, note="e4m3, one e8m0 byte per 32 (OCP MX)"),
    MXFP4, NVFP4,
    _gguf("q4_0", 32, 18), _gguf("q4_1", 32, 20), _gguf("q5_0", 32, 22), _gguf("q5_1", 32, 24),
    _gguf("q8_0", 32, 34),
    _gguf("q2_k", 256, 84), _gguf("q3_k", 256, 110), _gguf("q4_k", 256, 144),
    _gguf("q5_k", 256, 176), _gguf("q6_k", 256, 210), _gguf("q8_k", 256, 292),
    _gguf("iq1_s", 256, 50), _gguf("iq1_m", 256, 56), _gguf("iq2_xxs", 256, 66),
    _gguf("iq2_xs", 256, 74), _gguf("iq2_s", 256, 82), _gguf("iq3_xxs", 256, 98),
    _gguf("iq3_s", 256, 110), _gguf("iq4_nl", 32, 18), _gguf("iq4_xs", 256, 136),
    _gguf("tq1_0", 256, 54), _gguf("tq2_0", 256, 66),
)  # fmt: skip

_INT4_LAYOUTS: Final = {
    # group size is filled in; block bits are scale (fp16/bf16) and zero point of one group and row
    "awq": Format(
        "int4_awq", 4, "bf16", (1, 128), 16 + 4, keeps_blocks=True,
        note="AWQ: fp16 scale and 4-bit zero per group"
    ),
    "gptq": Format(
        "int4_gptq", 4, "bf16", (1, 128), 16 + 4, 0, 32, keeps_blocks=True,
        note="GPTQ: as AWQ plus an int32 group index per input column",
    ),
    "sym": Format(
        "int4_sym", 4, "bf16", (1, 128), 16, keeps_blocks=True,
        note="symmetric groups, bf16 scale, no zero point (compressed-tensors)",
    ),
}  # fmt: skip
_INT4_NAME: Final = re.compile(r"int4(?:_(awq|gptq|sym))?(?:_g(16|32|64|128|256))?")
_GGUF_MIX: Final = re.compile(r"i?q\d_(k|xs|s)_(xs|s|m|l|xl)")

FORMATS: Final = {fmt.name: fmt for fmt in _FORMATS}
ALIASES: Final = {
    "bfloat16": "bf16", "float16": "fp16", "f16": "fp16", "half": "fp16", "float32": "fp32",
    "f32": "fp32",
    "fp8_e4m3": "fp8_tensor", "fp8_block": "fp8", "float8_e4m3fn": "fp8_tensor",
}  # fmt: skip


_FP8_STATE: Final = Format(
    "fp8", 8, "fp8", note="e4m3 or e5m2; its scales are stored with the layer"
)
_STATE_FORMATS: Final = {
    **{name: FORMATS[name] for name in ("fp32", "bf16", "fp16", "q8_0", "q5_1", "q5_0", "q4_1")},
    **{name: FORMATS[name] for name in ("q4_0", "iq4_nl", "mxfp8", "mxfp4")},
    "nvfp4": Format("nvfp4", 4, "fp4", (1, 16), 8, note="e2m1, one e4m3 byte per 16"),
    "fp8_ds_mla": Format(
        "fp8_ds_mla",
        9,
        "fp8",
        (1, 576),
        64,
        note="656 bytes per latent of 512 + 64: e4m3 with four fp32 scales, bf16 rotary key (vLLM)",
    ),
    "fp8_indexer": Format(
        "fp8_indexer", 8, "fp8", (1, 128), 32, note="e4m3, one fp32 scale per 128 (vLLM)"
    ),
    **dict.fromkeys(("fp8", "fp8_e4m3", "fp8_e5m2"), _FP8_STATE),
}


def state_format_named(name: str) -> Format:
    """The format called ``name`` for what requests keep (``--kv-dtype``): no scales beyond a token.

    ``q8_0/f16`` keeps keys in the first and values in the second.

    Raises:
        UnknownNameError: Not a format that caches are kept in.
    """
    key = name.strip().lower().replace("-", "_")
    key = key if key in _STATE_FORMATS else ALIASES.get(key, key)
    if key in _STATE_FORMATS:
        return _STATE_FORMATS[key]
    keys, slash, values = key.partition("/")
    if slash and keys.strip() and "/" not in values:
        return _paired(state_format_named(keys), state_format_named(values))
    accepted = ", ".join(_STATE_FORMATS)
    raise UnknownNameError("state format", name, _STATE_FORMATS, f"Accepted: {accepted}.")


def _paired(keys: Format, values: Format) -> Format:
    """Keys in one format and values of the same width in another, as llama.cpp allows.

    Counted by pairs of 32 elements, the longest block that such formats have.
    """
    if keys == values:
        return keys
    bits = 8 * (bytes_for((32,), keys) + bytes_for((32,), values))
    each, left = divmod(bits, 64)
    name, note = f"{keys.name}/{values.name}", "keys / values, equally wide"
    return Format(name, each, keys.compute, (1, 64), left, note=note)


def known_names() -> tuple[str, ...]:
    """All names that ``format_named`` accepts, int4 group sizes left open."""
    return (*FORMATS, "int4", "int4_awq_g128", "int4_gptq_g128", "int4_sym_g32", *ALIASES)


def known_state_names() -> tuple[str, ...]:
    """All names that ``state_format_named`` accepts, aliases left out."""
    return tuple(_STATE_FORMATS)


def listed_formats() -> tuple[Format, ...]:
    """One format of every kind, for listings."""
    return (*FORMATS.values(), *(format_named(f"int4_{kind}_g128") for kind in _INT4_LAYOUTS))


_BITS_NAME: Final = re.compile(r"(\d{1,2}\.\d{1,4})_bits")


def format_of_bits(bits: float) -> Format:
    """A mix of formats by its average bits a weight, as GGUF files state it (``4.321_bits``).

    Raises:
        InputError: Not between 1 and 32 bits.
    """
    if not 1 <= bits <= 32:
        raise InputError(f"{bits:g} bits a weight is no format: between 1 and 32.")
    whole, block = int(bits), 256
    left = round((bits - whole) * block)
    note = "average over a file that mixes types"
    return Format(f"{bits:.4g}_bits", whole, "fp16", (1, block), left, note=note)


def format_named(name: str) -> Format:
    """The format called ``name``: ``bf16``, ``fp8``, ``int4`` (AWQ, group 128), ``int4_sym_g32``.

    ``4.85_bits`` is a GGUF mix by its average.

    Raises:
        UnknownNameError: No such format, with the nearest names.
        InputError: The name of a GGUF *mix* (``q4_k_m``), which is several formats by role.
    """
    key = name.strip().lower().replace("-", "_")
    key = ALIASES.get(key, key)
    if key in FORMATS:
        return FORMATS[key]
    if match := _INT4_NAME.fullmatch(key):
        kind, group = match[1] or "awq", int(match[2] or 128)
        base = _INT4_LAYOUTS[kind]
        return replace(base, name=f"int4_{kind}_g{group}", block=(1, group))
    if match := _BITS_NAME.fullmatch(key):
        return format_of_bits(float(match[1]))
    if _GGUF_MIX.fullmatch(key):
        raise InputError(
            f"'{printable(name)}' is a mix of GGUF tensor types, not one format: name the types by "
            "role, for example --dtype q4_k,ffn=q6_k,embedding=q6_k."
        )
    raise UnknownNameError(
        "number format", name, known_names(), "`llmplan hardware --dtypes` lists them."
    )
