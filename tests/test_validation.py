from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from llmplan.documents import parse_document
from llmplan.errors import DocumentError
from llmplan.validation import validated


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Grouped(Strict):
    kind: Literal["gqa"]
    heads: Annotated[int, Field(gt=0)]
    """Query heads.

    More about them.
    """
    gqa: Annotated[int, Field(ge=0)] = 0


class Latent(Strict):
    kind: Literal["mla"]
    rank: int


Block = Annotated[Grouped | Latent, Field(discriminator="kind")]


class Spec(Strict):
    name: str
    block: Block | None = None
    blocks: dict[str, Block] = {}
    layers: tuple[Block, ...] = ()
    widths: int | list[int] = 3
    colour: Literal["red", "green"] = "red"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nam: x", "f:1, key nam: unknown key 'nam'. Did you mean name?"),
        ("colour: red", "f, key name: is missing."),
        ("name: 3", "f:1, key name: should be a valid string, but is 3."),
        ("name: x\ncolour: gren", "f:2, key colour: unknown value 'gren'. Did you mean green?"),
        ("name: x\ncolour: 7", "f:2, key colour: should be 'red' or 'green', but is 7."),
        (
            "name: x\nblock: {kind: gqa}",
            "f:2, key block.heads: is missing. It states: Query heads.",
        ),
        ("name: x\nblock: {heads: 1}", "f:2, key block.kind: is missing."),
        (
            "name: x\nblock:\n  kind: gqb",
            "f:3, key block.kind: unknown value 'gqb'. Did you mean gqa?",
        ),
        (
            "name: x\nblock:\n  kind: gqa\n  haeds: 3",
            "f:4, key block.haeds: unknown key 'haeds'. Did you mean heads?",
        ),
        (
            "name: x\nblock:\n  kind: gqa\n  heads: -3",
            "f:4, key block.heads: should be greater than 0, but is -3.",
        ),
        (
            "name: x\nblock:\n  kind: gqa\n  heads: 3\n  gqa: -1",
            "f:5, key block.gqa: should be greater than or equal to 0, but is -1.",
        ),
        (
            "name: x\nblocks:\n  gqa:\n    kind: mla\n    rank: 2\n    heads: 1",
            "f:6, key blocks.gqa.heads: unknown key 'heads'. Known keys: kind, rank.",
        ),
        (
            "name: x\nlayers:\n  - {kind: mla, rank: 1}\n  - kind: mla\n    rnak: 1",
            "f:5, key layers.1.rnak: unknown key 'rnak'. Did you mean rank?",
        ),
        (
            "name: x\nwidths:\n  - 1\n  - [2]",
            "f:4, key widths.1: should be a valid integer.",
        ),
    ],
)
def test_the_first_fault_in_the_words_of_the_file(text, message):
    with pytest.raises(DocumentError) as caught:
        validated(parse_document(text, "f"), Spec)

    assert str(caught.value) == message


def test_a_sound_document_becomes_its_model():
    text = "name: x\nblocks:\n  a: {kind: gqa, heads: 2}\nwidths: [1, 2]"

    spec = validated(parse_document(text, "f"), Spec)

    assert spec == Spec(name="x", blocks={"a": Grouped(kind="gqa", heads=2)}, widths=[1, 2])
