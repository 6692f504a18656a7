"""A start command of an engine, as pasted, to settings; and settings to the flags they are called.

The text is read, never run: substitutions, unset variables and several commands are refused. So is
every flag that no table knows, because it might change memory.

llmplan's words where an engine has its own: llama.cpp stores keys and values in formats of their
own, so ``kv_dtype`` is always both, ``q8_0/q4_0``; its ``max_model_len`` is ``--ctx-size`` over the
slots unless they share one pool, and ``total_context`` is ``--ctx-size`` itself.
"""

from collections.abc import Callable
from typing import Any, Final

from llmplan.engines.flag_kinds import Entry, Flag
from llmplan.engines.flag_reader import Said, expand_dotted, index, is_flag, read_flag
from llmplan.engines.flag_tables import llamacpp, sglang, trtllm, vllm
from llmplan.engines.flag_tables.environment import DEVICE_NAMES
from llmplan.engines.programs import ENVIRONMENT, Start, start
from llmplan.engines.settings import EngineName, Launch, Settings
from llmplan.engines.shell import statements
from llmplan.errors import InputError, printable

TABLES: Final[dict[EngineName, tuple[Entry, ...]]] = {
    EngineName.VLLM: vllm.TABLE,
    EngineName.SGLANG: sglang.TABLE,
    EngineName.TRTLLM: trtllm.TABLE,
    EngineName.LLAMACPP: llamacpp.TABLE,
}
_INDEXES: Final = {engine: index(f"flag of {engine}", table) for engine, table in TABLES.items()}
_SETTLE: Final[dict[EngineName, Callable[[dict[str, Any]], None]]] = {
    EngineName.VLLM: vllm.settle,
    EngineName.SGLANG: sglang.settle,
    EngineName.TRTLLM: trtllm.settle,
    EngineName.LLAMACPP: llamacpp.settle,
}


def parse_command(text: str) -> Launch:
    """Read a start command of vLLM, SGLang, TensorRT-LLM or llama.cpp.

    Raises:
        InputError: It cannot be read, contradicts itself, or might say more than was understood.
    """
    found = statements(text, read=ENVIRONMENT)
    if len(found) != 1:
        count = "no command" if not found else f"{len(found)} commands"
        raise InputError(f"command: {count} in the text; paste the one that starts the engine")
    said = Said()
    begun = start(found[0], said)
    _read_words(begun, said)
    _SETTLE[begun.engine](said.values)
    gpus = [said.values.pop(name, None) for name in DEVICE_NAMES]
    devices = next((count for count in gpus if count is not None), None)
    model = said.values.pop("model", None)
    return Launch(
        engine=begun.engine,
        version=begun.version,
        model=model,
        settings=Settings(**said.values, devices=devices),
        ignored=tuple(dict.fromkeys(said.ignored)),
        unread=tuple(dict.fromkeys(said.unread)),
    )


def flag_of(engine: EngineName, setting: str) -> str | None:
    """What an engine calls a setting, as it is typed; None where it has no flag for it."""
    for entry in TABLES.get(engine, ()):
        if isinstance(entry, Flag) and setting in {entry.sets, *entry.also.split()}:
            return entry.spelled.split()[0]
    return None


def _read_words(begun: Start, said: Said) -> None:
    known, rest = _INDEXES[begun.engine], begun.words
    while rest:
        token = rest.popleft()
        if is_flag(token):
            read_flag(known, said, expand_dotted(known, token), rest)
        elif begun.named_by_flag or not token:
            raise InputError(f"'{printable(token)}' belongs to no flag of {begun.engine}")
        elif "model" in said.by:
            raise InputError(
                f"'{printable(token)}' belongs to no flag, and the model is named before it"
            )
        else:
            said.put("model", token, "the model's name")
