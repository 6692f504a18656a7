"""Files that lie: each is refused within a second of work and 200 MB, and nothing is shown raw."""

import json
import os
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmplan.errors import LlmplanError
from llmplan.model.catalogue import load_model
from llmplan.model.stored.gguf_file import MAX_HEAD_BYTES
from llmplan.model.stored.safetensors_file import MAX_HEADER_BYTES
from tests.program import llmplan
from tests.stored_files import (
    LLAMA_CONFIG,
    LLAMA_METADATA,
    gguf_bytes,
    llama_gguf,
    llama_tensors,
    safetensors_bytes,
    text,
)

MOST_SECONDS = 1.0
"""Of work on one core; the slowest case takes a third of it."""
MOST_BYTES = 200_000_000
HANGS_AFTER_S = 120

# -- safetensors ---------------------------------------------------------------------------------


def with_header(header: bytes, data: int = 0, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(data)


def entry(dtype="F32", shape=(1,), offsets=(0, 4)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def header_of(**entries) -> bytes:
    return with_header(json.dumps(entries).encode(), data=64)


def filled(item: bytes, size: int, first: bytes = b"", last: bytes = b"") -> bytes:
    """As many items as fit."""
    return first + item * ((size - len(first) - len(last)) // len(item)) + last


def numbered_entries(count: int) -> bytes:
    items = (b'"%x":{"dtype":"F32","shape":[],"data_offsets":[0,0]}' % i for i in range(count))
    return b"{" + b",".join(items) + b"}"


SAFETENSORS = {
    "empty": b"",
    "five bytes": b"\0" * 5,
    "length beyond the file": with_header(b"{}", length=100),
    "length of 2^63": with_header(b"{}", length=2**63),
    "no JSON": with_header(b"weights"),
    "a list": with_header(b"[]"),
    "not UTF-8": with_header(b'{"\xff\xfe": 1}'),
    "lone surrogate": header_of(**{"x\ud800": entry(dtype="\ud800")}),
    "a key twice": with_header(b'{"a": {"dtype": 1}, "a": {"dtype": 2}}'),
    "a number of 10^6 digits": with_header(b'{"a": ' + b"9" * 10**6 + b"}"),
    "NaN": with_header(b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 4]}}'),
    "infinity": with_header(
        b'{"a": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 4]}}'
    ),
    "deep nesting": with_header(b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}"),
    "deep and open": with_header(b"[" * 4_000_000),
    "quotes without end": with_header(rb"\"" * 4_000_000),
    "many empty lists": with_header(filled(b"[],", MAX_HEADER_BYTES, b'{"a":[', b"[]]}")),
    "many numbers": with_header(filled(b"9999999999,", MAX_HEADER_BYTES, b'{"a":[', b"1]}")),
    "many tensors": with_header(numbered_entries(250_000)),
    "a tensor that is none": header_of(a=3),
    "missing offsets": header_of(a={"dtype": "F32", "shape": [1]}),
    "unknown type": header_of(a=entry(dtype="F1024")),
    "type that is a list": header_of(a=entry(dtype=[1])),
    "negative shape": header_of(a=entry(shape=(-1,))),
    "two negative shapes": header_of(a=entry(shape=(-1, -1))),
    "huge shape": header_of(a=entry(shape=(2**62, 2**62))),
    "shape of truth": header_of(a=entry(shape=(True,))),
    "many axes": header_of(a=entry(shape=(1,) * 10_000)),
    "offsets beyond the end": header_of(a=entry(offsets=(10**9, 10**9 + 4))),
    "offsets in reverse": header_of(a=entry(offsets=(4, 0))),
    "offsets of another size": header_of(a=entry(offsets=(0, 64))),
    "three offsets": header_of(a=entry(offsets=(0, 4, 8))),
    "overlapping offsets": header_of(a=entry(offsets=(0, 4)), b=entry(offsets=(2, 6))),
    "no tensors": with_header(b"{}"),
}

# -- the index -----------------------------------------------------------------------------------

SHARDS = (
    "../model.safetensors", "/etc/model.safetensors", "a/model.safetensors", "..", ".", "",
    "..\\model.safetensors", ".hidden.safetensors", "model.bin", "a\0.safetensors",
    "\u001b[31m.safetensors", "~.safetensors", "folder.safetensors", "missing.safetensors",
    "pipe.safetensors", "x" * 5_000 + ".safetensors", "ｍodel.safetensors",
)  # fmt: skip
INDEXES = {
    **{f"shard {name[:30]!a}": {"weight_map": {"a": name}} for name in SHARDS},
    "no map": {"metadata": {}},
    "a map of numbers": {"weight_map": {"a": 1}},
    "a list": {"weight_map": ["a"]},
    "many shards": {"weight_map": {f"{i}": f"{i}.safetensors" for i in range(100_000)}},
    "another name in the shard": {"weight_map": {"b": "good.safetensors"}},
}

# -- GGUF ----------------------------------------------------------------------------------------


def head(tensors: int, pairs: int, *parts: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + b"".join(parts)


def tensor(name: str = "a", shape: tuple[int, ...] = (32,), kind: int = 0, at: int = 0) -> bytes:
    axes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + axes + struct.pack("<IQ", kind, at)


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return text("a") + struct.pack("<IIQ", 9, kind, count) + items


def llama(**changed) -> bytes:
    own = {f"llama.{key.replace('__', '.')}": value for key, value in changed.items()}
    return gguf_bytes(LLAMA_METADATA | own, llama_gguf())


MANY = MAX_HEAD_BYTES // 1100
GGUF = {
    "empty": b"",
    "another magic": b"GGML" + bytes(100),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "version 1": head(0, 0, version=1),
    "2^60 tensors": head(2**60, 0),
    "2^60 keys": head(0, 2**60),
    "as many tensors as are read, none there": head(20_000, 0),
    "no keys": head(0, 0),
    "string of 2^60 bytes": head(0, 1, struct.pack("<Q", 2**60)),
    "value of 2^60 bytes": head(0, 1, text("a"), struct.pack("<IQ", 8, 2**60)),
    "list of 2^60 items": head(0, 1, array(4, 2**60)),
    "list of 10^6 items that are not there": head(0, 1, array(4, 10**6)),
    "list of strings of 2^63 bytes": head(0, 1, array(8, 2, struct.pack("<Q", 2**63) * 2)),
    "list of lists": head(0, 1, array(9, 3)),
    "list of unknown kind": head(0, 1, array(77, 3)),
    "value of unknown kind": head(0, 1, text("a"), struct.pack("<I", 77)),
    "list of 10^6 empty strings": head(0, 1, array(8, 10**6, bytes(8 * 10**6))),
    "many lists of bytes": head(
        0, 10_000, *(text(f"{i}") + struct.pack("<IIQ", 9, 0, 1000) + bytes(1000)
                     for i in range(min(MANY, 10_000)))
    ),
    "a key twice": head(0, 2, *(text("a") + struct.pack("<II", 4, 1) for _ in range(2))),
    "a name twice": head(2, 0, tensor(at=0), tensor(at=128), bytes(512)),
    "unknown type": head(1, 0, tensor(kind=999), bytes(512)),
    "removed type": head(1, 0, tensor(kind=4), bytes(512)),
    "zero rows": head(1, 0, tensor(shape=(32, 0)), bytes(512)),
    "no axes": head(1, 0, tensor(shape=()), bytes(512)),
    "many axes": head(1, 0, text("a"), struct.pack("<I", 2**31), bytes(512)),
    "huge shape": head(1, 0, tensor(shape=(2**63, 2**63)), bytes(512)),
    "rows that do not fill blocks": head(1, 0, tensor(shape=(31,), kind=8), bytes(512)),
    "offset beyond the end": head(1, 0, tensor(at=2**62), bytes(512)),
    "overlap": head(2, 0, tensor("a"), tensor("b", at=64), bytes(512)),
    "cut off": gguf_bytes(LLAMA_METADATA, llama_gguf())[:-4000],
    "alignment of zero": gguf_bytes(LLAMA_METADATA | {"general.alignment": 0}, llama_gguf()),
    "alignment of text": gguf_bytes(LLAMA_METADATA | {"general.alignment": "x"}, llama_gguf()),
    "architecture of escape codes": gguf_bytes({"general.architecture": "\x1b[31m"}, {}),
    "architecture of a number": gguf_bytes({"general.architecture": 3}, {}),
    "no architecture": gguf_bytes({"general.name": "x"}, {}),
    "key of escape codes": gguf_bytes(LLAMA_METADATA | {"llama.\x1b[31m": 1}, llama_gguf()),
    "10^9 layers": llama(block_count=10**9),
    "no layers": llama(block_count=0),
    "no heads": llama(attention__head_count=0),
    "width as text": llama(embedding_length="4096"),
    "width of NaN": llama(embedding_length=float("nan")),
    "width of infinity": llama(embedding_length=float("inf")),
    "heads by layer": llama(attention__head_count=[4, 8]),
    "2^32 experts": llama(expert_count=2**32 - 1, expert_used_count=2),
    "a split of 10^9": gguf_bytes(LLAMA_METADATA | {"split.count": 10**9}, llama_gguf()),
    "a split of itself": gguf_bytes(LLAMA_METADATA | {"split.count": 2}, llama_gguf()),
    "no vocabulary": gguf_bytes(LLAMA_METADATA, {}),
}  # fmt: skip

CONFIGS = {
    "many modules left out": {
        **LLAMA_CONFIG,
        "quantization_config": {
            "quant_method": "fp8",
            "modules_to_not_convert": [f"model.layers.*{i}.x.*{i}" for i in range(100_000)],
        },
    },
    "slow expressions": {
        **LLAMA_CONFIG,
        "num_hidden_layers": 10_000,
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 8}}},
            "ignore": [f"re:.*[0-9]+.*{'a' * i}.*q" for i in range(99)],
        },
    },
}


def hostile_paths(folder: Path) -> dict[str, Path]:
    """Every case as a file in a folder of its own."""
    paths = {}

    def add(kind: str, name: str, file: str, content: bytes | str) -> None:
        own = folder / f"{kind}-{len(paths)}"
        own.mkdir()
        (own / "config.json").write_text(json.dumps(LLAMA_CONFIG))
        raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        (own / file).write_bytes(raw)
        paths[f"{kind}: {name}"] = own / file

    for name, raw in SAFETENSORS.items():
        add("safetensors", name, "model.safetensors", raw)
    for name, index in INDEXES.items():
        add("index", name, "model.safetensors.index.json", json.dumps(index))
        own = list(paths.values())[-1].parent
        (own / "folder.safetensors").mkdir()
        os.mkfifo(own / "pipe.safetensors")
        (own / "good.safetensors").write_bytes(safetensors_bytes({"a": ("F32", (1,))}))
    for name, raw in GGUF.items():
        add("gguf", name, "model.gguf", raw)
    for name, config in CONFIGS.items():
        add("config", name, "config.json", json.dumps(config))
    for name, file, size in (("safetensors", "model.safetensors", 2), ("gguf", "model.gguf", 8)):
        length = struct.pack("<Q", 10**9) + b"{"
        endless = head(0, 1, array(0, 10**6)) if name == "gguf" else length
        add(name, "a header of 10^9 bytes", file, endless)
        os.truncate(list(paths.values())[-1], size * 10**9)
    return paths


MEASURE = """
import json, os, resource, sys
from pathlib import Path
from llmplan.errors import LlmplanError
from llmplan.model.catalogue import load_model
import llmplan.model.importing.stored

results = {}
for name, path in json.loads(sys.argv[1]).items():
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9))
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        try:
            load_model(path)
            outcome = "accepted"
        except LlmplanError as error:
            outcome = "refused: " + str(error)
        except BaseException as error:
            outcome = "crashed: " + repr(error)[:300]
        used = resource.getrusage(resource.RUSAGE_SELF)
        answer = [outcome[:2000], used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]
        os.write(write_end, json.dumps(answer).encode())
        os._exit(0)
    os.close(write_end)
    raw = b"".join(iter(lambda: os.read(read_end, 65536), b""))
    os.close(read_end)
    os.wait()
    results[name] = json.loads(raw) if raw else ["killed", 99.0, 0]
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict[str, tuple[str, float, int]]:
    """What came of each case, the seconds of work and the most memory that it took."""
    paths = hostile_paths(tmp_path_factory.mktemp("hostile"))
    argument = json.dumps({name: str(path) for name, path in paths.items()})
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, argument],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANGS_AFTER_S,
    )
    return json.loads(done.stdout)


def test_every_hostile_file_is_refused(measured):
    assert {name: r[0] for name, r in measured.items() if not r[0].startswith("refused")} == {}


def test_every_refusal_is_quick_and_small(measured):
    """Work is counted in seconds of one core, so that a busy machine does not fail it."""
    dear = {n: r[1:] for n, r in measured.items() if r[1] > MOST_SECONDS or r[2] > MOST_BYTES}

    assert dear == {}


def test_no_refusal_shows_control_characters(measured):
    raw = {name: r[0] for name, r in measured.items() if not r[0].isprintable()}

    assert raw == {}


def test_a_refusal_is_one_message_without_traceback(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(GGUF["architecture of escape codes"])

    done = llmplan("memory", str(path))

    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr


WHOLE = {
    "model.safetensors": safetensors_bytes(llama_tensors(layers=2)),
    "model.gguf": gguf_bytes(LLAMA_METADATA, llama_gguf()),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_off_anywhere_in_its_header_is_refused(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_CONFIG))
    path = tmp_path / name

    for end in [*range(0, 2000, 7), len(WHOLE[name]) - 1]:
        path.write_bytes(WHOLE[name][:end])
        with pytest.raises(LlmplanError):
            load_model(path)


@pytest.mark.parametrize("name", [*WHOLE, "config.json"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_changed_bytes_give_a_model_or_a_refusal(tmp_path_factory, name, data):
    """Anything but ``LlmplanError`` fails the test."""
    raw = bytearray(WHOLE.get(name) or json.dumps(LLAMA_CONFIG).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(raw), 3000) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("changed")
    (folder / "config.json").write_text(json.dumps(LLAMA_CONFIG))
    (folder / name).write_bytes(raw)

    with suppress(LlmplanError):
        load_model(folder / name)
