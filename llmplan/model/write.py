"""A spec as YAML that reads as if written by hand."""

import json
from collections.abc import Iterator
from typing import Any, Final

MODELINE: Final = "# yaml-language-server: $schema=model.schema.json"
_GROUPS: Final = (
    ("kind", "name", "family", "hf_ids", "variants", "architecture", "source", "license",
     "release_date", "notes"),
    ("max_position_embeddings", "hidden_size", "num_hidden_layers", "vocab_size",
     "extra_input_rows", "hidden_size_per_layer_input", "vocab_size_per_layer_input",
     "tie_word_embeddings", "lm_head_bias", "num_positions", "rotary_scales", "embedding_norm",
     "norm"),
    ("image_size", "num_inference_steps", "patch_size"), ("pipeline",),
    ("precision",), ("blocks",), ("layers",), ("mtp",), ("vision",),
    ("projector_width", "projector"), ("audio_projector",),
)  # fmt: skip


def spec_text(body: dict[str, Any]) -> str:
    """The YAML text of a spec's keys and values, grouped as the catalogue's files are."""
    known = [key for group in _GROUPS for key in group]
    rest = tuple(key for key in body if key not in known)
    groups = ["\n".join(_lines({k: body[k] for k in group if k in body}, 0))
              for group in (*_GROUPS, rest)]  # fmt: skip
    return "\n".join([MODELINE, "\n\n".join(group for group in groups if group)]) + "\n"


def _lines(mapping: dict[str, Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, value in mapping.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{key}:"
            yield from _lines(value, depth + 1)
        elif isinstance(value, list | tuple) and value and _is_short(value):
            yield f"{indent}{key}: {_flow(value)}"
        elif isinstance(value, list | tuple) and value:
            yield f"{indent}{key}:"
            yield from _items(value, depth + 1)
        else:
            yield f"{indent}{key}: {_scalar(value)}"


def _items(values: list[Any] | tuple[Any, ...], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for value in values:
        if isinstance(value, dict):
            first, *others = _lines(value, depth + 1)
            yield f"{indent}- {first.lstrip()}"
            yield from others
        else:
            yield f"{indent}- {_scalar(value)}"


def _is_short(values: list[Any] | tuple[Any, ...]) -> bool:
    """Lists of block names stand on one line; lists of mappings and of ids do not."""
    return all(
        _is_short(value)
        if isinstance(value, list | tuple)
        else isinstance(value, str) and "/" not in value and " " not in value
        for value in values
    )


def _flow(value: Any) -> str:
    """Names, or lists of names, on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """A scalar that YAML reads back as the same value."""
    if isinstance(value, str) and _is_plain(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _is_plain(text: str) -> bool:
    """Whether text needs no quotes: words that are neither a number nor a word of YAML."""
    first, rest = text[:1], text[1:]
    words = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "~"}
    return (
        first.isascii()
        and first.isalpha()
        and text.lower() not in words
        and all(c.isascii() and (c.isalnum() or c in "._-/ ()") for c in rest)
        and not text.endswith(" ")
    )
