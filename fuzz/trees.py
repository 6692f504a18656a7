"""Changes of parsed JSON and YAML: trees of mappings, lists and scalars that stay well formed."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from random import Random
from typing import Any, Final, TypeAlias

Place: TypeAlias = tuple[Any, Any]
"""A container, and the key or index in it."""
EDGES: Final = (
    None, True, False, 0, 1, 2, 3, -1, 7, 64, 10_000, 10_001, 10**6, 10**9, 2**31, 2**53, 2**63,
    10**30, 0.0, 0.5, -0.5, 1e-300, 1e308, float("inf"), "", "0", "auto", "none", "default",
    "\x1b[31m", "\n", "\ud7ff", "x" * 300, "re:.*", "re:(", "re:(a*)*b", "*", "[", "../x",
    "2026-11-22", "1:30", [], {}, [[]], [{}], {"": None}, [0], [1, 2], [""], [None, True],
)  # fmt: skip


def changed(tree: Any, random: Random, words: Sequence[str]) -> Any:
    """The tree with one to four small changes."""
    tree = deepcopy(tree)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = list(_places(tree))
        if places:
            container, key = random.choice(places)
            random.choice(_CHANGES)(container, key, random, words, places)
    return tree


def _places(tree: Any) -> Iterator[Place]:
    items = tree.items() if isinstance(tree, dict) else ()
    items = enumerate(tree) if isinstance(tree, list) else items
    for key, value in items:
        yield tree, key
        yield from _places(value)


def _edge(container: Any, key: Any, random: Random, words: Sequence[str], _: list[Place]) -> None:
    container[key] = deepcopy(random.choice((*EDGES, random.choice(words))))


def _number(container: Any, key: Any, random: Random, words: Sequence[str], p: list[Place]) -> None:
    value = container[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        _edge(container, key, random, words, p)
        return
    change = random.choice((value + 1, value - 1, value * 2, value // 2, -value, value * 10**3))
    container[key] = change


def _remove(container: Any, key: Any, *_: Any) -> None:
    del container[key]


def _rename(container: Any, key: Any, random: Random, words: Sequence[str], p: list[Place]) -> None:
    if isinstance(container, list):
        _repeat(container, key, random, words, p)
    else:
        container[random.choice(words)] = container.pop(key)


def _copy(container: Any, key: Any, random: Random, _: Sequence[str], places: list[Place]) -> None:
    other, at = random.choice(places)
    container[key] = deepcopy(other[at])


def _add(container: Any, _key: Any, random: Random, words: Sequence[str], _p: list[Place]) -> None:
    value = deepcopy(random.choice((*EDGES, random.choice(words))))
    if isinstance(container, list):
        container.append(value)
    else:
        container[random.choice(words)] = value


def _repeat(container: Any, key: Any, random: Random, *_: Any) -> None:
    times = random.choice((2, 3, 40))
    value = container[key]
    container[key] = value * times if isinstance(value, list) and len(value) < 400 else [value]


def _nest(container: Any, key: Any, random: Random, words: Sequence[str], _: list[Place]) -> None:
    for _depth in range(random.choice((1, 2, 50))):
        inner = container[key]
        container[key] = random.choice(([inner], {random.choice(words): inner}))


_CHANGES: Final = (
    _edge, _edge, _edge, _number, _number, _number, _remove, _rename, _copy, _copy, _add, _add,
    _repeat, _nest,
)  # fmt: skip
