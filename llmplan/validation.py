"""From a YAML document to a pydantic model; what pydantic refuses becomes file, line and key.

Pydantic reports every fault at once, in its own words and with union tags between the keys. Here
one fault is chosen, the tags are taken out, and the message says what stands there and what should.
"""

from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llmplan.described import field_descriptions
from llmplan.documents import Document, KeyPath, unknown_key_message
from llmplan.errors import DocumentError, nearest_names, printable

M = TypeVar("M", bound=BaseModel)

DISCRIMINATOR: Final = "kind"


def validated(document: Document, model: type[M]) -> M:
    """The document as an instance of ``model``.

    Raises:
        DocumentError: The first fault, an unknown key before all others (often their cause).
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        faults = error.errors(include_url=False)
    raise _document_error(document, model, _first(document, faults))


def _document_error(
    document: Document, model: type[BaseModel], fault: ErrorDetails
) -> DocumentError:
    path = _path(document, fault)
    match fault["type"]:
        case "extra_forbidden":
            known = _known_keys(_models_at(model, fault["loc"][:-1]))
            return document.error(unknown_key_message(str(path[-1]), known), path)
        case "missing" | "union_tag_not_found":
            return document.error(f"is missing.{_meaning(model, fault)}", path)
        case "union_tag_invalid":
            tag, expected = (str(fault["ctx"][part]) for part in ("tag", "expected_tags"))
            return document.error(_unknown_value_message(tag, expected), path)
        case "literal_error" | "enum" if isinstance(fault["input"], str):
            expected = str(fault["ctx"]["expected"])
            return document.error(_unknown_value_message(fault["input"], expected), path)
        case _:
            return document.error(_wrong_value_message(fault), path)


def _first(document: Document, faults: list[ErrorDetails]) -> ErrorDetails:
    """The fault to report: a union names one per member, of which the deepest is meant."""
    paths = [_path(document, fault) for fault in faults]
    parents = {path[:length] for path in paths for length in range(len(path))}
    deepest = [
        (fault, path) for fault, path in zip(faults, paths, strict=True) if path not in parents
    ]
    return min(
        deepest, key=lambda pair: (pair[0]["type"] != "extra_forbidden", document.line(pair[1]))
    )[0]


def _path(document: Document, fault: ErrorDetails) -> KeyPath:
    """The place of a fault in the file: pydantic's, less the union tags that it inserts."""
    here: object = document.data
    last = fault["loc"][-1:]
    path: KeyPath = ()
    tag_seen = True  # the whole document is no member of a union, whatever its kind
    for part in fault["loc"]:
        is_tag = isinstance(here, dict) and here.get(DISCRIMINATOR) == part and not tag_seen
        if not is_tag and _holds(here, part):
            here, path, tag_seen = here[part], (*path, part), False  # type: ignore[index]
        tag_seen = tag_seen or is_tag
    if fault["type"] == "missing" or (fault["type"] == "extra_forbidden" and path[-1:] != last):
        return (*path, *last)
    in_tag = fault["type"] in {"union_tag_invalid", "union_tag_not_found"}
    return (*path, DISCRIMINATOR) if in_tag else path


def _holds(container: object, part: int | str) -> bool:
    if isinstance(container, list):
        return isinstance(part, int) and part < len(container)
    return isinstance(container, dict) and part in container


def _unknown_value_message(value: str, expected: str) -> str:
    names = [name.strip("' ") for name in expected.replace(" or ", ", ").split(",")]
    nearest = nearest_names(value, names, most=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"Accepted: {', '.join(names)}."
    return f"unknown value '{printable(value)}'. {hint}"


def _wrong_value_message(fault: ErrorDetails) -> str:
    """Pydantic's words, with the value that stands in the file where it is short."""
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    given = fault["input"]
    if fault["type"] == "too_short":
        return f"needs at least {fault['ctx']['min_length']} entry."
    if fault["type"] == "too_long":
        return f"has more than {fault['ctx']['max_length']} entries."
    if fault["type"] == "value_error" or not isinstance(given, str | int | float | bool | None):
        return f"{message}."
    return f"{message}, but is {printable(repr(given))}."


def _meaning(model: type[BaseModel], fault: ErrorDetails) -> str:
    """What the missing key is for, from the first line of its description."""
    for parent in _models_at(model, fault["loc"][:-1]):
        text = field_descriptions(parent).get(str(fault["loc"][-1]))
        if text:
            return f" It states: {text.splitlines()[0]}"
    return ""


def _known_keys(models: Iterable[type[BaseModel]]) -> list[str]:
    return list(dict.fromkeys(key for model in models for key in model.model_fields))


def _models_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """The pydantic models that may stand at ``loc``, which may hold union tags."""
    here: list[Any] = [model]
    for depth, part in enumerate(loc):
        inner = [child for kind in here for child in _children(kind, part, tagged=depth > 0)]
        here = inner or [kind for kind in here if part in _tags(kind)] or here
    return [kind for kind in here if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _children(annotation: Any, part: int | str, *, tagged: bool) -> Iterator[Any]:
    """The types that the key or index ``part`` of a value of this type may have.

    Where a tag may stand, a key of the same name as the tag is taken for it.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        if field and not (tagged and part in _tags(annotation)):
            yield from _members(field.annotation)
    elif get_origin(annotation) in {list, tuple, dict}:
        yield from _members(next((a for a in get_args(annotation)[::-1] if a is not ...), None))


def _members(annotation: Any) -> Iterator[Any]:
    """The members of a union, or the type itself, without ``Annotated``."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in {Union, UnionType}:
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _tags(annotation: Any) -> tuple[Any, ...]:
    """What pydantic may put into a location for this member of a union."""
    name = getattr(annotation, "__name__", str(annotation))
    field = getattr(annotation, "model_fields", {}).get(DISCRIMINATOR)
    values = get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()
    return (name, *values)
