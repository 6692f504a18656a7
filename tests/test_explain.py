"""What ``llmplan explain`` says of the keys of results: of all, and of none that is not there."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from llmplan.cli.main import app
from llmplan.errors import UnknownNameError
from llmplan.results.explain import ExplainQuestion, keys_file, named_keys
from llmplan.results.key_units import stated_unit
from llmplan.results.keys import result_keys
from tests.program import llmplan

ROOT = Path(__file__).parent.parent
KEYS = result_keys()
ROWS = ExplainQuestion().ask().result.keys
COMMANDS = {command.name for command in app.registered_commands}
ENTRIES = [
    (command, place, entry)
    for command, stated in keys_file().commands.items()
    for place, entry in stated.keys.items()
]

HEADINGS = {
    "layout options": "Layout",
    "engine options": "Engine",
    "options of what is held beside": "Beside the model",
    "host memory options": "In host memory",
    "traffic options": "Traffic",
    "speculative decoding options": "Speculative decoding",
}


def explained(key: str):
    """The only row of a key."""
    (row,) = ExplainQuestion(key=key).ask().result.keys
    return row


@cache
def options_called(name: str, command: str) -> set[str]:
    """Options of a command that a name stands for: itself, an argument, or all under a heading."""
    parameters = typer.main.get_command(app).commands[command].params
    heading = HEADINGS.get(name)
    return {
        option
        for p in parameters
        for option in (*p.opts, p.metavar)
        if name == option or (heading and heading == getattr(p, "rich_help_panel", None))
    }


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_key_of_every_result_is_explained():
    assert len(ROWS) == len(KEYS) > 400
    assert [row.key for row in ROWS if not row.meaning] == []
    assert {row.command.partition(" ")[0] for row in ROWS} >= COMMANDS - {"schema"}


@pytest.mark.parametrize("form", ["plain", "name", "whole"])
def test_every_key_is_found_by_its_place(form):
    lost = [key.whole for key in KEYS if key not in named_keys(getattr(key, form), KEYS)[0]]

    assert lost == []


def test_every_key_is_found_by_its_last_part():
    lost = []
    for key in KEYS:
        found, deeper = named_keys(key.plain.rpartition(".")[2], KEYS)
        if key not in (*found, *deeper):
            lost.append(key.whole)

    assert lost == []


def test_every_fraction_and_rate_has_a_unit():
    stated = {(row.command, row.key): row.unit for row in ROWS}

    without = [k.whole for k in KEYS if float in k.kinds and not stated[k.command, k.name]]

    assert without == []


def test_every_entry_names_a_key():
    known = {(key.command_word, key.plain) for key in KEYS}

    assert [
        (command, place) for command, place, _ in ENTRIES if (command, place) not in known
    ] == []


def test_every_option_that_changes_a_key_is_one_of_its_command():
    unknown = [
        (row.command, row.key, option)
        for row in ROWS
        for option in row.changed_by
        if not options_called(option, row.command.partition(" ")[0])
    ]

    assert unknown == []


def test_no_entry_states_the_unit_that_its_name_states():
    parts = {(key.command_word, key.plain): key.parts for key in KEYS}

    told_twice = [
        (command, place)
        for command, place, entry in ENTRIES
        if entry.unit and entry.unit == stated_unit(parts[command, place][-1])
    ]

    assert told_twice == []


def test_every_page_exists():
    pages = {row.page for row in ROWS}

    missing = []
    for page in pages:
        path, _, anchor = page.partition("#")
        if not (ROOT / path).is_file() or (anchor and anchor not in anchors(ROOT / path)):
            missing.append(page)

    assert missing == []


@pytest.mark.parametrize(
    ("part", "unit"),
    [
        ("weights_bytes", "bytes"),
        ("bytes_per_token", "bytes per token"),
        ("bytes_per_request_fixed", "bytes per request"),
        ("bytes_per_request_reserved_as_full", "bytes per request"),
        ("weights_bytes_per_gpu", "bytes per GPU"),
        ("link_s_per_token", "seconds per token"),
        ("output_tokens_per_s_per_gpu", "tokens per second per GPU"),
        ("usd_per_million_output_tokens", "US dollars per million output tokens"),
        ("usd_per_gpu_hour", "US dollars per hour of a GPU"),
        ("flops_per_byte", "FLOPs per byte"),
        ("peak_flops_per_s{}", "FLOPs per second"),
        ("p90_abs_error_frac", "fraction (0.01 is 1 %)"),
        ("total", ""),
        ("stages", ""),
    ],
)
def test_a_name_ends_in_its_unit(part, unit):
    assert stated_unit(part) == unit


def test_a_figure_without_a_unit_has_that_of_its_object():
    assert explained("flops_per_token.decode").unit == "FLOPs per token"
    assert explained("breakdown.scan").unit == "FLOPs per token"
    assert explained("host.stays_on_gpu").unit == "bytes"


def test_an_explanation_has_all_its_parts():
    row = explained("kv_cache.bytes_per_token")

    assert (row.command, row.type, row.unit) == ("memory", "whole number", "bytes per token")
    assert row.meaning == "Keys and values of layers whose state grows without limit."
    assert row.formula.startswith("sum over layers of K x (h_qk + h_v) x bytes of --kv-dtype")
    assert row.provenance == ["exact"]
    assert "--kv-dtype" in row.changed_by
    assert row.page == "docs/math/attention.md#mha-gqa-and-mqa"


def test_a_figure_without_an_entry_takes_what_its_object_says():
    row = explained("ledger.with_mtp.scale_entries")

    assert (row.formula, row.provenance, row.changed_by) == ("", ["exact"], ["MODEL"])
    assert row.page == "docs/concepts.md#the-one-idea"


def test_text_takes_no_provenance_from_its_object():
    assert explained("per_gpu.notes").provenance == []


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("deployments[0].try[0].option", "deployments[].try[].option"),
        ("deployments.0.concurrency_at.8192", "deployments[].concurrency_at{}"),
        ("result.kv_cache.total_bytes", "kv_cache.total_bytes"),
        ("breakdown.decode_absorbed.scan", "breakdown{}.scan"),
        ("flops.image_components.vae.per_run.vector", "image_components{}.per_run.vector"),
        ("memory.fits", "fits"),
    ],
)
def test_a_key_may_be_typed_as_answers_have_it(typed, key):
    assert explained(typed).key == key


def test_a_name_at_the_top_goes_before_those_inside():
    result = ExplainQuestion(key="weights_bytes").ask().result

    assert [(row.command, row.key) for row in result.keys] == [("memory", "weights_bytes")]
    assert "memory.per_gpu.weights_bytes" in result.others


def test_a_name_of_several_commands_shows_them_all():
    result = ExplainQuestion(key="layout").ask().result

    assert {"memory", "place", "reconcile"} <= {row.command for row in result.keys}
    assert result.others == [
        "fit.deployments[].layout", "fit.deployments[].try[].layout", "calibrate.layers[].layout",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", ".", "kv_cash.total_bytes", "schema_version", "a" * 10_000])
def test_what_is_no_key_is_refused(name):
    with pytest.raises(UnknownNameError, match="`llmplan explain` lists all keys"):
        ExplainQuestion(key=name).ask()


def test_a_misspelt_key_leads_to_the_right_one():
    assert "kv_cache.total_bytes" in llmplan("explain", "kv_cash.total_bytes").stderr


def test_all_keys_are_listed_by_command():
    listed = llmplan("explain").stdout

    assert [line for line in listed.splitlines() if line.startswith("llmplan ")] == [
        f"llmplan {command}" for command in dict.fromkeys(row.command for row in ROWS)
    ]
    assert all(row.key in listed for row in ROWS)


def test_other_commands_do_not_load_it():
    code = "import llmplan.cli.main, llmplan.results.fit, sys; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"llmplan.results.explain", "llmplan.results.key_spec"} & set(loaded)


VARIED = {
    "flops deepseek-v3.2": ("--context 1k", "--full-square"),
    "flops flux.1-dev": ("--width 512", "--height 512", "--steps 3", "--guidance true-cfg"),
    "flops qwen3-next-80b-a3b --gpus h100 --step-time 12ms": (
        "--batch 2", "--context 1k", "--dtype fp8", "--kv-dtype fp8", "--state-dtype fp32",
    ),
    "flops deepseek-v3.2 --gpus 8xh200 --step-time 12ms": ("--indexer-dtype fp8", "--gpus h200"),
    "memory deepseek-v3.2": (
        "--dtype int8", "--kv-dtype fp8", "--indexer-dtype fp8", "--context 2k", "--batch 2",
        "--mtp", "--text-only",
    ),
    "memory qwen3-next-80b-a3b": ("--state-dtype fp32", "--mtp", "--context 1k"),
    "memory gemma-3-27b": ("--kv-dtype fp8", "--text-only", "--context 512"),
    "memory qwen3-next-80b-a3b --gpus 8xh200": (
        "--dtype fp8", "--kv-dtype fp8", "--state-dtype fp32", "--context 2k", "--batch 2", "--mtp",
        "--engine vllm@0.19", "--gpu-memory-utilization 0.8", "--reserve 5GiB", "--tp 4", "--pp 2",
        "--ep 8", "--cpu-offload 4GiB", "--lora 2", "--draft llama-3.1-8b", "--prompt-logits",
        "--kv-offload 10GiB", "--experts-on-cpu", "--gpu-layers 10",
    ),
    "memory llama-3.1-8b --gpus 2xh100 --engine vllm@0.19": (
        "--max-model-len 4096", "--max-num-batched-tokens 2048", "--max-num-seqs 16",
        "--block-size 64", "--enforce-eager", "--kv-cache-memory 10GiB", "--kv-dtype fp8",
    ),
    "fit mixtral-8x7b --gpus 8xh100": (
        "--dtype fp8", "--kv-dtype fp8", "--context 2k", "--batch 2", "--reserve 20GiB", "--tp 4",
        "--engine vllm@0.19", "--ep 8", "--cpu-offload 4GiB", "--prompt-logits",
        "--gpu-layers 10",
    ),
    "estimate llama-3.1-8b --gpus 2xh100 --isl 1000 --osl 200 --concurrency 16": (
        "--dtype fp8",
        "--kv-dtype fp8",
        "--isl 2000",
        "--osl 100",
        "--concurrency 32",
        "--tp 2",
        "--engine vllm",
        "--max-num-seqs 8",
        "--ttft 1s",
        "--draft llama-3.2-1b --speculative-tokens 3 --acceptance 0.7",
        "--prefix-cache 0.5",
    ),
    "place mixtral-8x7b --gpus 2n4xh100": ("--tp 2", "--pp 2", "--dtype fp8", "--prefill-cp 2"),
    "place qwen3-235b-a22b --gpus 8xh100 --ep 8 --tp 4 --dp 2": ("--zipf 1", "--tp 1 --dp 8"),
}  # fmt: skip


def figures(*arguments: str) -> dict[str, list[object]]:
    """Values of an answer by the key that they have, texts left out."""
    done = llmplan(*arguments, "--format", "json")
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)["result"]
    found: dict[str, list[object]] = {}
    patterns = {
        re.compile(
            re.escape(key.name).replace(r"\[\]", r"\.\d+").replace(r"\{\}", r"\.[^|]+?")
        ): key
        for key in KEYS
        if key.command == arguments[0] and not any(map(is_object, key.kinds))
    }
    for place, value in leaves(result):
        key = next((key for shape, key in patterns.items() if shape.fullmatch(place)), None)
        if key and not isinstance(value, str):
            found.setdefault(key.plain, []).append(value)
    return found


def is_object(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def leaves(value: object, place: str = ""):
    """Every value of a document with its dotted place."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in inside:
        where = f"{place}.{name}".removeprefix(".")
        if isinstance(item, dict | list):
            yield from leaves(item, where)
        else:
            yield where, item


@pytest.mark.parametrize("command", VARIED)
def test_what_changes_a_figure_is_named(command):
    arguments = command.split()
    said = {key.plain: row for key, row in zip(KEYS, ROWS, strict=True) if
            key.command == arguments[0]}  # fmt: skip
    before = figures(*arguments)

    unnamed = []
    for change in VARIED[command]:
        option = change.split()[0]
        after = figures(*arguments, *change.split())
        for place in before.keys() | after.keys():
            named = {
                o for name in said[place].changed_by for o in options_called(name, arguments[0])
            }
            if named and before.get(place) != after.get(place) and option not in named:
                unnamed.append((place, option))

    assert unnamed == []
