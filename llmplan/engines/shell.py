"""Shell text to words, without a shell: nothing is executed, and what would be is refused."""

import re
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final

from llmplan.errors import InputError, printable

MAX_TEXT: Final = 64 * 1024
"""Characters of a command; also what its variables may grow to."""

ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)

_TOKEN: Final = re.compile(
    r"""
    (?P<space>  [ \t]+ | \\\n )
  | (?P<note>   (?<![^\s;&|]) \# [^\n]* )
  | (?P<end>    \n | ; | && )
  | (?P<aside>  [0-9]*>&[0-9-] )
  | (?P<into>   [0-9]*>>? | &>>? )
  | (?P<pipe>   \|&?(?!\|) )
  | (?P<amp>    & )
  | (?P<single> '[^']*' )
  | (?P<double> "(?:[^"\\]|\\.)*" )
  | (?P<escape> \\. )
  | (?P<name>   \$ (?: \{[A-Za-z_][A-Za-z0-9_]*\} | [A-Za-z_][A-Za-z0-9_]* ) )
  | (?P<run>    \$\( )
  | (?P<plain>  [^\s'"\\$`|&;<>(){}\#]+ )
  | (?P<other>  . )
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_QUOTES: Final = re.compile(
    r"(?P<name>\$(?:\{[A-Za-z_]\w*\}|[A-Za-z_]\w*))|(?P<run>\$\(|\$[^\s\"]|`)|\\(?P<escape>[$`\"\\\n])",
    re.ASCII,
)
_REFUSED: Final = {
    "`": "a command in backquotes is not run; put its output in its place",
    "$(": "a command in $( ) is not run; put its output in its place",
    "$": "an expansion is not carried out; put its value in its place",
    "(": "a subshell is not run; paste the start command alone",
    ")": "a subshell is not run; paste the start command alone",
    "{": "a brace outside quotes is expanded by the shell; put the value in single quotes",
    "}": "a brace outside quotes is expanded by the shell; put the value in single quotes",
    "<": "input from a file is not read; put the values in the command",
    "|": "'||' runs one of two commands; paste the start command alone",
    "'": "a quotation is not closed",
    '"': "a quotation is not closed",
    "\\": "nothing follows the last backslash",
}


@dataclass(slots=True)
class _Reader:
    """One pass over the text.

    Attributes:
        read: Variables that programs are known to read.
        statements: Commands read so far, as words.
        variables: Values that an earlier statement set.
        exported: Names among them that programs see.
        used: Names among them that later words used.
        words: Words of the command being read.
        word: The word being read; None between words.
        after: What the next words are: of the command, a file written to, or behind a pipe.
        expanded: Characters that variables brought in.
    """

    read: Container[str]
    statements: list[list[str]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    exported: dict[str, None] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    word: str | None = None
    after: str = "command"
    expanded: int = 0

    def add(self, text: str) -> None:
        self.word = (self.word or "") + text

    def finish_word(self) -> None:
        if self.word is not None and self.after == "command":
            self.words.append(self.word)
        if self.word is not None and self.after == "file":
            self.after = "command"
        self.word = None

    def finish_statement(self) -> None:
        """End the command; one that only sets variables is remembered, not kept."""
        self.finish_word()
        if self.after == "file":
            raise InputError("command: no file name follows '>'")
        words, self.words, self.after = self.words, [], "command"
        exports = words[:1] == ["export"]
        assigned = [ASSIGNMENT.fullmatch(word) for word in words[exports:]]
        if words and all(assigned):
            values = {match[1]: match[2] for match in assigned if match}
            self.variables |= values
            self.exported |= dict.fromkeys(values) if exports else {}
        elif words:
            # Only a text of one command is of use, so the others need no environment.
            before = [] if self.statements else self.environment()
            self.statements.append([*before, *words])

    def environment(self) -> list[str]:
        """Exported variables as words before a command, but for those that only build words."""
        names = [name for name in self.exported if name in self.read or name not in self.used]
        return [f"{name}={self.variables[name]}" for name in names]

    def value(self, name: str) -> str:
        """What a variable stands for, when the text says so before it is used."""
        bare = name.strip("${}")
        if bare not in self.variables:
            raise InputError(
                f"command: ${printable(bare)} is not set in an earlier statement of the text; "
                "put its value in its place"
            )
        self.used.add(bare)
        value = self.variables[bare]
        self.expanded += len(value)
        if self.expanded > MAX_TEXT:
            raise InputError(f"command: its variables grow past {MAX_TEXT} characters")
        return value

    def unquoted(self, name: str) -> str:
        value = self.value(name)
        if not value or re.search(r"\s", value):
            raise InputError(
                f"command: the shell would split or drop the value of {printable(name)}; "
                "put it in its place"
            )
        return value

    def quoted(self, text: str) -> str:
        def replaced(match: re.Match[str]) -> str:
            if match["run"]:
                raise InputError(
                    f"command: {_REFUSED[match['run'] if match['run'] in _REFUSED else '$']}"
                )
            if match["name"]:
                return self.value(match["name"])
            return match["escape"].replace("\n", "")

        return _IN_QUOTES.sub(replaced, text)


def statements(text: str, read: Container[str] = ()) -> list[list[str]]:
    """The commands of a pasted text as words, without prompts, comments, pipes and output files.

    Statements that only set variables serve those after them. Exported ones stand before the
    command, as ``NAME=value``, unless they only built a word and programs do not ``read`` them.

    Raises:
        InputError: The text is too long, not closed, or asks the shell to run something.
    """
    if len(text) > MAX_TEXT:
        raise InputError(f"command: longer than {MAX_TEXT} characters; paste the start alone")
    reader = _Reader(read)
    lines = text.replace("\r\n", "\n")
    for token in _TOKEN.finditer(re.sub(r"(?m)^[ \t]*\$[ \t]+", "", lines)):
        _take(reader, str(token.lastgroup), token[0])
    reader.finish_statement()
    return reader.statements


def _take(reader: _Reader, kind: str, found: str) -> None:
    match kind:
        case "space" | "note":
            reader.finish_word()
        case "end" | "amp":
            reader.finish_statement()
        case "aside":
            reader.finish_word()
        case "into" | "pipe":
            reader.finish_word()
            reader.after = "file" if kind == "into" and reader.after == "command" else reader.after
            reader.after = "pipe" if kind == "pipe" else reader.after
        case _:
            reader.add(_text(reader, kind, found))


def _text(reader: _Reader, kind: str, found: str) -> str:
    """What a token adds to its word."""
    match kind:
        case "single":
            return found[1:-1]
        case "double":
            return reader.quoted(found[1:-1])
        case "escape":
            return found[1:]
        case "name":
            return reader.unquoted(found)
        case "other" | "run" if found in _REFUSED:
            raise InputError(f"command: {_REFUSED[found]}")
        case _:
            return found
