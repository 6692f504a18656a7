"""``python -m fuzz TARGET [SECONDS]``: libFuzzer by atheris, from seeds that it writes itself.

The corpus grows in ``.fuzz/TARGET``. An input that fails is written to ``.fuzz`` and ends the run;
once its cause is mended it belongs in ``fuzz/found/TARGET``.
"""

import hashlib
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import atheris

from fuzz.targets import NAMES, target_named

if TYPE_CHECKING:
    from fuzz.common import Target

_ROOT: Final = Path(__file__).parent.parent
_OUT: Final = _ROOT / ".fuzz"
_MAX_LENGTH: Final = 65_536
_HANGS_AFTER_S: Final = 20
_WORTH_A_LOOK_S: Final = 1.0
_WORTH_A_LOOK_BYTES: Final = 50_000_000
"""An input that takes so long, or after which the process is so much larger, is measured alone."""


def main(name: str, seconds: str = "60") -> None:
    """Run one target."""
    with atheris.instrument_imports(include=["llmplan"]):
        target = target_named(name)
        folder, corpus = _OUT / f"{name}-files", _OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        corpus.mkdir(exist_ok=True)
        target.prepare(folder)
        # readers import some modules when they need them, and these are to be seen as well
        seeds = list(target.seeds())
        for seed in seeds:
            target.outcome(folder, seed)
    found = [path.read_bytes() for path in (_ROOT / "fuzz" / "found" / name).glob("*")]
    for seed in (*seeds, *found):
        (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    options = {
        "max_total_time": seconds,
        "max_len": _MAX_LENGTH,
        "len_control": 0,
        "timeout": _HANGS_AFTER_S,
        "rss_limit_mb": 2048,
        "artifact_prefix": f"{_OUT / name}-",
        "print_final_stats": 1,
    }
    arguments = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup(
        ["fuzz", *arguments, str(corpus)], _once(target, folder), custom_mutator=_mutator(target)
    )
    atheris.Fuzz()


def _once(target: "Target", folder: Path) -> Callable[[bytes], None]:
    """One input; one that seems dear is measured again without instrumentation."""

    def run(raw: bytes) -> None:
        before, began = _most_bytes(), time.process_time()
        target.outcome(folder, raw)
        seconds, grown = time.process_time() - began, _most_bytes() - before
        if seconds > _WORTH_A_LOOK_S or grown > _WORTH_A_LOOK_BYTES:
            _refuse_dear(target.name, folder / "dear", raw)

    return run


def _most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _refuse_dear(name: str, path: Path, raw: bytes) -> None:
    from fuzz.replay import replayed  # noqa: PLC0415 (rarely needed)

    path.write_bytes(raw)
    fault = replayed(name, [path])[path].fault()
    if fault:
        raise AssertionError(fault)


def _mutator(target: "Target") -> Callable[[bytes, int, int], bytes]:
    """The target's changes; the fuzzer's own where they fail."""

    def mutate(raw: bytes, max_size: int, seed: int) -> bytes:
        def blind(part: bytes) -> bytes:
            return atheris.Mutate(part or b"0", max(len(part) + 64, 64))

        try:
            changed = target.mutate(raw, Random(seed), blind)
        except Exception:  # noqa: BLE001 (an input may be anything by now)
            changed = blind(raw)
        return changed if len(changed) <= max_size else raw

    return mutate


if __name__ == "__main__":
    if not set(sys.argv[1:2]) <= set(NAMES) or len(sys.argv) < 2:
        sys.exit(f"usage: python -m fuzz {{{','.join(NAMES)}}} [SECONDS]")
    main(*sys.argv[1:])
