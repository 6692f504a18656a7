"""Strict YAML: bounded, without aliases or duplicate keys, every value with its line.

Specs and hardware files are read here and nowhere else. A document is plain dictionaries, lists and
scalars; ``Document.line`` answers where a key stands, so that an error can point at it.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from llmplan.errors import DocumentError, nearest_names, printable

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 20
MAX_VALUES: Final = 50_000
"""Most separators of values; the largest shipped file has 550."""
_SEPARATORS: Final = ",:-?]}\n\r\x85\u2028\u2029"
_FEW_BRACKETS: Final = 1000
"""So many open brackets and indented columns cannot exhaust the stack of the parser."""
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_INT: Final = "tag:yaml.org,2002:int"
_FLOAT: Final = "tag:yaml.org,2002:float"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

KeyPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed YAML mapping and the line of each of its keys.

    Attributes:
        path: The file as it should be named in messages.
        data: The top-level mapping.
        lines: One-based line by key path.
    """

    path: str
    data: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int:
        """Line of the key at ``path``, or of the nearest parent that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def error(self, message: str, path: KeyPath) -> DocumentError:
        """A ``DocumentError`` that points at ``path``."""
        return DocumentError(message, self.path, self.line(path), ".".join(map(str, path)))


def shipped_folder(name: str) -> Path:
    """The folder of shipped data called ``name`` (``specs``, ``hardware``).

    In an installed wheel it lies inside the package, in a checkout beside it.
    """
    package = Path(__file__).parent
    installed = package / "_data" / name
    return installed if installed.is_dir() else package.parent / name


def load_document(
    path: Path, shown_as: str | None = None, *, most_values: int = MAX_VALUES
) -> Document:
    """Read one YAML mapping.

    Args:
        path: The file.
        shown_as: Its name in messages.
        most_values: Most separators of values.

    Raises:
        DocumentError: Missing, too large, of too many values, not UTF-8, not a mapping, nested
            too deep, with aliases, duplicate keys, or NaN and infinite numbers.
    """
    name = shown_as or str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", name) from None
    if len(raw) > MAX_BYTES:
        raise DocumentError(f"is larger than {MAX_BYTES:,} bytes, so it is no spec.", name)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise DocumentError("is not UTF-8 text.", name) from None
    return parse_document(text, name, most_values=most_values)


def parse_document(text: str, name: str, *, most_values: int = MAX_VALUES) -> Document:
    """Parse one YAML mapping from text; errors as in ``load_document``."""
    if sum(map(text.count, _SEPARATORS)) > most_values:
        raise DocumentError(f"holds more than {most_values:,} values, so it is no spec.", name)
    try:
        if not _is_plain(text):
            _refuse_aliases_and_depth(text, name)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        problem = printable(error.problem or "syntax error")
        line = mark.line + 1 if mark else 0
        raise DocumentError(f"is no valid YAML ({problem}).", name, line) from None
    except yaml.YAMLError:
        raise DocumentError("holds characters that YAML does not allow.", name) from None
    if not isinstance(node, yaml.MappingNode):
        raise DocumentError("must hold a mapping of keys to values.", name)
    lines: dict[KeyPath, int] = {}
    return Document(name, _mapping(node, (), lines, name), lines)


def _is_plain(text: str) -> bool:
    """Whether no alias can stand in a text and no nesting can be deep, at a glance.

    Every level of nesting has a bracket of its own or a column further in. Most files are plain,
    and looking at each event of a file takes a third of the time of reading it.
    """
    brackets = text.count("[") + text.count("{")
    return (
        "&" not in text
        and "*" not in text
        and brackets + max(map(len, text.splitlines()), default=0) < _FEW_BRACKETS
    )


def _refuse_aliases_and_depth(text: str, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise DocumentError("anchors and aliases (& and *) are not read.", name, line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise DocumentError(f"is nested deeper than {MAX_DEPTH} levels.", name, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _refuse_depth(node: yaml.Node, path: KeyPath, name: str) -> None:
    if len(path) >= MAX_DEPTH:
        line = node.start_mark.line + 1
        raise DocumentError(f"is nested deeper than {MAX_DEPTH} levels.", name, line)


def _mapping(
    node: yaml.MappingNode, path: KeyPath, lines: dict[KeyPath, int], name: str
) -> dict[str, Any]:
    _refuse_depth(node, path, name)
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise DocumentError("a key must be a plain word.", name, line)
        key = str(key_node.value)
        if key in result:
            first = lines[(*path, key)]
            raise DocumentError(f"is given twice (first in line {first}).", name, line, key)
        lines[(*path, key)] = line
        result[key] = _value(value_node, (*path, key), lines, name)
    return result


def _value(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], name: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines, name)
    if isinstance(node, yaml.SequenceNode):
        _refuse_depth(node, path, name)
        items = []
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            items.append(_value(item, (*path, index), lines, name))
        return items
    return _scalar(node, path, name)


def _scalar(node: yaml.Node, path: KeyPath, name: str) -> Any:
    line, key = node.start_mark.line + 1, ".".join(map(str, path))
    text = str(node.value)
    # YAML 1.1 reads 010 as 8 and 1:30 as 90, the latter in time that grows with its square
    if (node.tag == _INT and not _DECIMAL.fullmatch(text)) or (node.tag == _FLOAT and ":" in text):
        raise DocumentError("must be written as a plain decimal number.", name, line, key)
    try:
        # a constructor remembers each node that it was given, so that each has its own
        value = yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError):
        # the last three are what a tag that does not suit its value (!!bool 3) comes to
        raise DocumentError(
            f"'{printable(text)}' cannot be read as a value.", name, line, key
        ) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise DocumentError("must be a finite number.", name, line, key)
    return value


def unknown_key_message(key: str, known: list[str]) -> str:
    """What to say of a key that a file may not have."""
    nearest = nearest_names(key, known, most=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else f" Known keys: {', '.join(known)}."
    return f"unknown key '{printable(key)}'.{hint}"
