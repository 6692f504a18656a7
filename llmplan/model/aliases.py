"""Repositories that quantise or fine-tune a model of the catalogue, read from their names.

A name such as ``org/NAME-FP8`` or ``org/NAME-Instruct-AWQ`` leads to its base model and a weight
format. What is assumed this way is said aloud wherever the model is used.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Reading:
    """What a repository's name says.

    Attributes:
        base: The name without quantisation and tuning words, in lower case.
        formats: Weight format for ``--dtype``; empty where the name states none.
        words: The parts of the name that were taken off.
    """

    base: str
    formats: str
    words: tuple[str, ...]

    @property
    def remark(self) -> str:
        """What was assumed, for a reader."""
        stored = f", linear weights in {self.formats}" if self.formats else ""
        taken = f", without {' '.join(self.words)}" if self.words else ", another publisher's"
        several = "; GGUF repositories hold several formats, so name one: --dtype q4_k"
        return f"{stored} (by its name alone{taken}{several if '-gguf' in self.words else ''})"


_FORMATS: Final = tuple(
    (re.compile(pattern), formats)
    for pattern, formats in (
        (r"-fp8-dynamic$", "fp8_channel"),
        (r"-fp8-kv$|-fp8-tensor$", "fp8_tensor"),
        (r"-fp8(-block)?$", "fp8"),
        (r"-(nvfp4|fp4)(-v\d)?$", "nvfp4"),
        (r"-mxfp4$", "mxfp4"),
        (r"-gptq(-int4|-4bit)?$|-gptq-int4$", "int4_gptq_g128"),
        (r"-gptq-int8$|-int8$|-quantized\.w8a8$|-w8a8$", "int8"),
        (r"-(awq-int4|int4-awq|awq(-4bit)?)$", "int4_awq_g128"),
        (r"-quantized\.w4a16$|-w4a16$|-int4$", "int4_sym_g128"),
        (r"-bf16$", "bf16"),
    )
)
_PER_TENSOR_PUBLISHERS: Final = ("nvidia", "amd", "redhatai", "neuralmagic")
"""Publishers whose plain ``-FP8`` has one scale a tensor, not one a block."""
_TUNING: Final = re.compile(r"-(instruct|chat|it|base|hf|thinking|gguf|mtp)$")


def readings(name: str) -> tuple[Reading, ...]:
    """Ways to read a name, with ever more words taken off; first the publisher alone."""
    publisher, _, rest = name.strip().lower().rpartition("/")
    formats, words, found = "", [], [Reading(rest, "", ())]
    while True:
        step = _format_step(publisher, rest) if not formats else None
        if step:
            rest, formats, word = step
        elif tuned := _TUNING.search(rest):
            rest, word = rest[: tuned.start()], tuned[0]
        else:
            return tuple(found)
        words.append(word)
        found.append(Reading(rest, formats, tuple(words)))


def _format_step(publisher: str, rest: str) -> tuple[str, str, str] | None:
    """The name without its format word, the format, and the word."""
    for pattern, formats in _FORMATS:
        if match := pattern.search(rest):
            by_tensor = formats == "fp8" and publisher in _PER_TENSOR_PUBLISHERS
            return rest[: match.start()], "fp8_tensor" if by_tensor else formats, match[0]
    return None


def short_name(hub_id: str) -> str:
    """The part of an id that names the model: without publisher, without Meta's prefix."""
    return hub_id.lower().rpartition("/")[2].removeprefix("meta-")
