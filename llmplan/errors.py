"""The error tree. The command line catches ``LlmplanError`` only; anything else is a bug.

LlmplanError                      exit code 2: the input must change
├── InputError                    an option or argument that cannot be read
│   ├── UnknownNameError          a name in no catalogue, with the nearest ones
│   └── UnverifiedModelError      a model known by name only, with the reason
├── DocumentError                 a file that cannot be read or contradicts itself (file:line, key)
├── LayoutError                   a split that the operators do not allow
└── MissingPartError              exit code 3: an optional extra, or a GPU, is not there
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_MOST_OF_A_KEY: Final = 200
_MOST_OF_A_MESSAGE: Final = 4_000


class LlmplanError(Exception):
    """Root of all errors a user can cause; its text says what, where and what to do."""

    exit_code = 2


class InputError(LlmplanError):
    """An option or argument cannot be read."""


class UnknownNameError(InputError):
    """A name is in no catalogue.

    Args:
        kind: What was looked for, as a reader would say it (``model``, ``GPU``).
        name: The name as given.
        known: All accepted names.
        next_step: What to do when the name is right but not known.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], next_step: str) -> None:
        self.kind = kind
        self.name = name
        self.nearest = nearest_names(name, known)
        hint = f" Did you mean {' or '.join(self.nearest)}?" if self.nearest else ""
        super().__init__(f"unknown {kind} '{printable(name)}'.{hint} {next_step}")


class UnverifiedModelError(InputError):
    """A model is known by name, and no numbers can be given for it.

    Args:
        name: The model.
        reason: Why, as a sentence.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.reason = f"unverified: {reason}"
        super().__init__(
            f"{self.reason} {name} has no numbers. `llmplan import` writes a spec of a config.json "
            "that you have; docs/add-a-model.md says how to write one."
        )


class DocumentError(LlmplanError):
    """A file cannot be read, has an unknown key, or contradicts itself.

    Key and message may quote the file: both are shown without control characters, and cut.

    Args:
        message: What is wrong and what to do.
        path: The file.
        line: One-based line, 0 when it concerns the file as a whole.
        key: Dotted path of the key.
    """

    def __init__(self, message: str, path: str, line: int = 0, key: str = "") -> None:
        self.path, self.line, self.key = path, line, key
        where = path if not line else f"{path}:{line}"
        at_key = f", key {printable(key, _MOST_OF_A_KEY)}" if key else ""
        super().__init__(f"{where}{at_key}: {printable(message, _MOST_OF_A_MESSAGE)}")


class LayoutError(LlmplanError):
    """A model cannot be split as asked."""


class MissingPartError(LlmplanError):
    """An optional part is not installed, or no device is seen; the message says what to do."""

    exit_code = 3


def nearest_names(name: str, known: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """The accepted names most like ``name``, best first, compared without case."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = get_close_matches(name.lower()[:200], by_lower, n=most, cutoff=0.6)
    return tuple(by_lower[match] for match in matches)


def printable(text: str, most: int = 80) -> str:
    """``text`` fit to stand in a message: no control characters, at most ``most`` long."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: most + 1])
    return clean if len(clean) <= most else clean[: most - 1] + "…"
