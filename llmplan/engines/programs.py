"""Which engine a command starts: its program, the container around it, and what stands before."""

import re
from collections import deque
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from llmplan.engines.flag_kinds import Ignored
from llmplan.engines.flag_reader import Said, index, is_flag, read_flag, read_named
from llmplan.engines.flag_tables import environment
from llmplan.engines.settings import EngineName
from llmplan.engines.shell import ASSIGNMENT
from llmplan.errors import InputError, UnknownNameError, printable

_VARIABLES: Final = index("environment variable", environment.VARIABLES)
_DOCKER: Final = index("option of docker run", environment.DOCKER)
ENVIRONMENT: Final = frozenset(_VARIABLES.entries)
"""Variables that an engine or its libraries read."""

_MODULES: Final = {
    "vllm.entrypoints.openai.api_server": EngineName.VLLM,
    "sglang.launch_server": EngineName.SGLANG,
}
_SUBCOMMANDS: Final = {"vllm": EngineName.VLLM, "sglang": EngineName.SGLANG}
_PROGRAMS: Final = {
    "trtllm-serve": EngineName.TRTLLM,
    "llama-server": EngineName.LLAMACPP,
    "llama-cli": EngineName.LLAMACPP,
}
_BEFORE: Final[dict[str, dict[str, bool]]] = {
    "sudo": {"-E": False, "-H": False, "-n": False},
    "numactl": {
        **dict.fromkeys(("-N", "-m", "-C", "-i", "-p", "--cpunodebind", "--membind"), True),
        **dict.fromkeys(("--physcpubind", "--interleave", "--preferred"), True),
        **dict.fromkeys(("-l", "--localalloc"), False),
    },
    **{name: {} for name in ("env", "nohup", "time", "exec", "trtllm-llmapi-launch")},
}
"""What may stand before a program, with its options and whether each takes a word."""
_CONTAINERS: Final = frozenset({"docker", "podman", "nerdctl"})
_KNOWN: Final = (
    "vllm serve",
    *(f"python -m {module}" for module in _MODULES),
    "sglang serve",
    *_PROGRAMS,
    "docker run",
)


@dataclass(frozen=True, slots=True)
class Image:
    """A kind of container image.

    Attributes:
        names: Ends of its name, without registry and tag.
        engine: What it holds.
        starts: Whether its flags follow the image at once, the program being its entry point.
        tag: Where the version stands in its tag.
    """

    names: tuple[str, ...]
    engine: EngineName
    starts: bool
    tag: re.Pattern[str]


_RELEASE: Final = re.compile(r"v?[0-9]+(?:\.[0-9a-z]+)+", re.ASCII)
_BUILD: Final = re.compile(r"\bb[0-9]{3,}\b", re.ASCII)
_IMAGES: Final = (
    Image(("vllm/vllm-openai",), EngineName.VLLM, starts=True, tag=_RELEASE),
    Image(("lmsysorg/sglang",), EngineName.SGLANG, starts=False, tag=_RELEASE),
    Image(("nvidia/tensorrt-llm/release",), EngineName.TRTLLM, starts=False, tag=_RELEASE),
    Image(("ggml-org/llama.cpp", "ggerganov/llama.cpp"), EngineName.LLAMACPP, True, _BUILD),
)


@dataclass(frozen=True, slots=True)
class Start:
    """A start command, down to the engine's own words.

    Attributes:
        engine: The engine.
        version: From the image's tag, as written there.
        named_by_flag: Whether the model has to come with a flag.
        words: What follows the program.
    """

    engine: EngineName
    version: str | None
    named_by_flag: bool
    words: deque[str]


def start(words: list[str], said: Said) -> Start:
    """Find the engine; variables and options on the way are read into ``said``.

    Raises:
        InputError: No engine is started, or something on the way might change memory.
    """
    rest = deque(words)
    variables = _before(rest)
    if rest and PurePosixPath(rest[0]).name in _CONTAINERS:
        return _container(rest, variables, said)
    for name, value in variables.items():
        _variable(name, value, said)
    return _program(rest, None)


def _before(rest: deque[str]) -> dict[str, str]:
    """Take off ``sudo -E``, ``env``, ``numactl`` and variables; returns the variables."""
    variables: dict[str, str] = {}
    while rest:
        if match := ASSIGNMENT.fullmatch(rest[0]):
            variables[match[1]] = match[2]
            rest.popleft()
        elif rest[0] in _BEFORE:
            options = _BEFORE[rest.popleft()]
            while rest and is_flag(rest[0]) and rest[0].partition("=")[0] in options:
                takes_next = "=" not in rest[0] and options[rest[0]]
                rest.popleft()
                if takes_next and rest:
                    rest.popleft()
        else:
            break
    return variables


def _variable(name: str, value: str, said: Said) -> None:
    if name.startswith("LLAMA_ARG_"):
        raise InputError(f"{printable(name)}: give it as a flag of llama-server")
    read_named(_VARIABLES, said, name, [value], deque())


def _program(rest: deque[str], version: str | None) -> Start:
    """The engine's program, whose own words follow it."""
    if not rest:
        raise InputError("command: nothing is started; paste the line that starts the engine")
    typed = rest.popleft()
    name = PurePosixPath(typed.replace("\\", "/")).name.removesuffix(".exe")
    if re.fullmatch(r"python(3(\.[0-9]+)?)?", name, re.ASCII):
        return Start(_module(rest), version, named_by_flag=True, words=rest)
    if name in _SUBCOMMANDS:
        if not rest or rest.popleft() != "serve":
            raise InputError(f"command: of {name}, only '{name} serve' is read")
        return Start(_SUBCOMMANDS[name], version, named_by_flag=False, words=rest)
    if name not in _PROGRAMS:
        raise UnknownNameError("program", typed, _KNOWN, f"Known are {', '.join(_KNOWN)}.")
    engine = _PROGRAMS[name]
    if engine is EngineName.TRTLLM and rest and rest[0] == "serve":
        rest.popleft()
    return Start(engine, version, named_by_flag=engine is EngineName.LLAMACPP, words=rest)


def _module(rest: deque[str]) -> EngineName:
    while rest and rest[0] == "-u":
        rest.popleft()
    if not rest or rest.popleft() != "-m" or not rest:
        raise InputError("command: of python, only 'python -m MODULE' is read")
    module = rest.popleft()
    if module not in _MODULES:
        raise UnknownNameError("module", module, _MODULES, f"Known are {', '.join(_MODULES)}.")
    return _MODULES[module]


def _container(rest: deque[str], outside: dict[str, str], said: Said) -> Start:
    """``docker run OPTIONS IMAGE[:TAG] WORDS``; the version comes from the tag.

    Variables outside reach the container only where an option passes them on.
    """
    rest.popleft()
    if rest and rest[0] == "container":
        rest.popleft()
    if not rest or rest.popleft() != "run":
        raise InputError("command: of docker, only 'docker run' is read")
    entry = _options(rest, outside, said)
    if not rest:
        raise InputError("docker run: no image is named")
    typed = rest.popleft()
    name, _, tag = typed.partition("@")[0].rpartition(":")
    if not name or "/" in tag:  # no tag, or the colon of a registry's port
        name, tag = typed.partition("@")[0], ""
    for image in _IMAGES:
        if any(name == known or name.endswith(f"/{known}") for known in image.names):
            return _inside(image, tag, entry, rest)
    known_images = [name for image in _IMAGES for name in image.names]
    raise UnknownNameError(
        "image", name, known_images, f"Known are {', '.join(known_images)}; paste what runs inside."
    )


def _inside(image: Image, tag: str, entry: str | None, rest: deque[str]) -> Start:
    found = image.tag.search(tag)
    version = found[0] if found else None
    if entry is not None:
        rest.appendleft(entry)
    starts_itself = image.starts and not (rest and _is_program(rest[0]))
    if starts_itself:
        by_flag = image.engine is EngineName.LLAMACPP
        return Start(image.engine, version, named_by_flag=by_flag, words=rest)
    begun = _program(rest, version)
    if begun.engine is not image.engine:
        raise InputError(f"docker run: the image holds {image.engine}, not {begun.engine}")
    return begun


def _is_program(word: str) -> bool:
    name = PurePosixPath(word).name
    return name in _SUBCOMMANDS or name in _PROGRAMS or name in {"python", "python3"}


def _options(rest: deque[str], outside: dict[str, str], said: Said) -> str | None:
    """Read docker's options up to the image; returns another entry point, when one is named."""
    entry = None
    while rest and is_flag(rest[0]):
        token = rest.popleft()
        name, equals, value = token.partition("=")
        if name not in {"-e", "--env", "--entrypoint"}:
            read_flag(_DOCKER, said, token, rest)
            continue
        if not equals and not rest:
            raise InputError(f"{name} is without its value")
        text = value if equals else rest.popleft()
        if name == "--entrypoint":
            entry = text
        else:
            _passed(text, outside, said)
    return entry


def _passed(text: str, outside: dict[str, str], said: Said) -> None:
    """A variable of ``docker run -e``; without ``=`` its value is that outside."""
    name, equals, value = text.partition("=")
    known = name in outside or isinstance(_VARIABLES.entry(name), Ignored)
    if not equals and not known:
        raise InputError(f"-e {printable(name)}: its value is not in the command; write it")
    _variable(name, value if equals else outside.get(name, ""), said)
