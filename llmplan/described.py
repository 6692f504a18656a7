"""Descriptions of pydantic fields from the text under them, read only when somebody asks.

Pydantic can do this while a class is made, but parsing every class's source then costs a tenth of
the start-up of a command that shows no description at all.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel


def described_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of ``model`` with the description of every field."""
    schema = model.model_json_schema(by_alias=True)
    classes = {found.__name__: found for found in _subclasses(BaseModel)}
    for name, definition in ((model.__name__, schema), *schema.get("$defs", {}).items()):
        if name in classes:
            _describe(definition, classes[name])
    return schema


def _describe(definition: dict[str, Any], model: type[BaseModel]) -> None:
    texts = field_descriptions(model)
    for field, info in model.model_fields.items():
        shown = definition.get("properties", {}).get(info.alias or field)
        if shown is not None and field in texts:
            shown["description"] = texts[field]


@cache
def field_descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The text under each field of a class and of the classes it extends."""
    texts: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if issubclass(parent, BaseModel) and parent is not BaseModel:
            texts |= dict(_own_descriptions(parent))
    return texts


def _own_descriptions(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for field, text in pairwise(body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                yield name, inspect.cleandoc(words)


def _subclasses(of: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in of.__subclasses__():
        yield model
        yield from _subclasses(model)
