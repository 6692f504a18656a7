"""The command line as other programs and terminals meet it: start-up, pipes, files, contract."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
import typer
import yaml

from llmplan.cli import options
from llmplan.cli.main import app
from llmplan.documents import shipped_folder
from llmplan.errors import LayoutError, LlmplanError, MissingPartError
from llmplan.model.catalogue import model_names, spec_paths
from tests.program import llmplan

ROOT = Path(__file__).parent.parent
FILES = Path(__file__).parent / "golden" / "files"
SMALL, CONFIG = str(FILES / "small.yaml"), str(FILES / "llama.json")
RIGHT, WRONG = str(FILES / "published.csv"), str(FILES / "contradicting.csv")
PROGRAM = Path(sys.executable).with_name("llmplan")
PLAIN_ENVIRONMENT = {
    key: value
    for key, value in os.environ.items()
    if key not in ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE")
}
STYLE = re.compile(r"\x1b\[[0-9;]*m")

# -- start-up ------------------------------------------------------------------------------------

NEVER = {"torch", "pandas", "scipy", "transformers"}
LATER = {"numpy", "pydantic"}
LOADED = """
import sys
try:
    {statement}
except SystemExit:
    pass
print(*{{name.partition(".")[0] for name in sys.modules}}, file=sys.stderr)
"""


def top_modules(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after ``statement``."""
    code = LOADED.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split("\n")[-2].split())


def top_modules_of(*arguments: str) -> set[str]:
    statement = f"sys.argv = {['llmplan', *arguments]}; import llmplan.cli.main as m; m.run()"
    return top_modules(statement)


@pytest.mark.parametrize(
    "arguments",
    [
        ("memory", "kimi-k2"),
        ("params", "kimi-k2", "--format", "json"),
        ("flops", "kimi-k2"),
        ("fit", "kimi-k2", "--gpus", "8xH100"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_load_no_heavy_library(arguments):
    assert top_modules_of(*arguments) & NEVER == set()


def test_help_computes_nothing():
    assert top_modules_of("--help") & (NEVER | LATER) == set()


def test_importing_the_package_loads_nothing():
    assert top_modules("import llmplan") & (NEVER | LATER | {"typer", "rich", "yaml"}) == set()


# -- pipes and terminals -------------------------------------------------------------------------


def test_a_reader_that_leaves_early_is_no_error():
    read_end, write_end = os.pipe()
    os.close(read_end)

    done = subprocess.run(
        [PROGRAM, "models"], stdout=write_end, stderr=subprocess.PIPE, text=True, check=False
    )

    os.close(write_end)
    assert done.stderr == ""


def test_only_the_first_line_can_be_taken():
    command = f"{PROGRAM} models --format json | head -1"

    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("{\n", "")


def piped(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=PLAIN_ENVIRONMENT | environment,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def on_terminal(*arguments: str, columns: int = 80, **environment: str) -> str:
    """What the program writes to a terminal of so many columns."""
    control, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.PIPE,
        env=PLAIN_ENVIRONMENT | {"TERM": "xterm-256color"} | environment,
    ) as process:
        os.close(terminal)
        text = b"".join(iter(lambda: _read(control), b""))
        remarks = process.stderr.read()
    os.close(control)
    assert process.returncode in (0, 1), remarks.decode()
    return text.decode().replace("\r\n", "\n")


def _read(control: int) -> bytes:
    try:
        return os.read(control, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""


def test_a_pipe_gets_no_styles_and_no_wrapped_or_cut_line():
    output = piped("models", COLUMNS="40", TERM="xterm-256color")

    rows = llmplan("models", "--format", "json")
    result = json.loads(rows.stdout)["result"]
    models, listed = result["models"], result["listed"]
    lines = output.splitlines()
    assert "\x1b" not in output
    # title, blank, heads, rule; then blank, title, heads, rule
    assert len(lines) == len(models) + 4 + len(listed) + 4
    for model, line in zip(models, lines[4:], strict=False):
        assert line.startswith(model["name"])
        assert line.endswith(", ".join(model["attention"]))
    for model, line in zip(listed, lines[-len(listed) :], strict=True):
        assert line.startswith(model["name"])
        assert line.endswith(model["reason"])


WIDE = [
    ("models",),
    ("hardware",),
    ("hardware", "--dtypes"),
    ("flops", "deepseek-v3"),
    ("memory", SMALL, "--explain"),
    ("fit", "llama-3.1-405b", "--gpus", "8xH100"),
    ("fit", "kimi-k2", "--gpus", "2n8xH200", "--context", "128k"),
]


def letters(text: str) -> Counter[str]:
    """All characters but blanks and rules."""
    return Counter(re.sub(r"[\s─]", "", text))


@pytest.mark.parametrize("arguments", WIDE, ids=" ".join)
def test_a_terminal_gets_everything_within_its_columns(arguments):
    shown = STYLE.sub("", on_terminal(*arguments))

    assert max(map(len, shown.splitlines())) <= 80
    assert letters(shown) == letters(piped(*arguments))


def test_a_wide_terminal_shows_the_lines_of_a_pipe():
    arguments = ("fit", "mixtral-8x7b", "--gpus", "8xH100")

    shown = STYLE.sub("", on_terminal(*arguments, columns=200))

    assert [line.rstrip() for line in shown.splitlines()] == piped(*arguments).splitlines()


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_styles_can_be_switched_off(environment):
    assert "\x1b" in on_terminal("params", SMALL)
    assert "\x1b" not in on_terminal("params", SMALL, **environment)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_an_encoding_without_rules_is_enough(encoding):
    output = piped("memory", SMALL, PYTHONIOENCODING=encoding)

    whole = piped("memory", SMALL)
    assert output.replace("?", "─") == whole or output == whole


# -- files ---------------------------------------------------------------------------------------


def test_a_file_gets_what_stdout_would(tmp_path):
    path = tmp_path / "answer.json"

    outcome = llmplan("memory", "kimi-k2", "--format", "json", "-o", str(path))

    assert outcome.stdout == ""
    assert path.read_text() == llmplan("memory", "kimi-k2", "--format", "json").stdout
    assert [file.name for file in tmp_path.iterdir()] == ["answer.json"]


def test_a_file_gets_no_styles(tmp_path):
    path = tmp_path / "answer.txt"

    on_terminal("params", SMALL, "-o", str(path))

    assert path.read_text() == piped("params", SMALL)


def test_the_schema_is_written_to_a_file_as_well(tmp_path):
    llmplan("schema", "node", "-o", str(tmp_path / "node.json"))

    assert (tmp_path / "node.json").read_text() == llmplan("schema", "node").stdout


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()

    for path in (folder, tmp_path / "missing" / "answer.json"):
        outcome = llmplan("params", SMALL, "-o", str(path))
        assert outcome.exit_code == 2
        assert outcome.stderr.startswith(f"error: {path} cannot be written")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_failed_command_leaves_the_old_file(tmp_path):
    path = tmp_path / "answer.json"
    path.write_text("old")

    assert llmplan("params", "kimi-k9", "-o", str(path)).exit_code == 2

    assert path.read_text() == "old"


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)

    llmplan("params", SMALL, "-o", str(link))

    assert link.is_symlink()
    assert target.read_text() == llmplan("params", SMALL).stdout


def test_a_pipe_with_a_name_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with subprocess.Popen([PROGRAM, "params", SMALL, "-o", pipe]) as writer:
        text = pipe.read_text()

    assert writer.returncode == 0
    assert text == llmplan("params", SMALL).stdout
    assert pipe.is_fifo()


# -- the contract of --format json ---------------------------------------------------------------

PARAMS = """
    parameters.total parameters.buffers parameters.mtp parameters.vision parameters.embedding
    parameters.active components.0.name components.0.total components.0.active
"""
FLOPS = "flops_per_token.decode flops_per_token.prefill"
MEMORY = """
    weights_bytes kv_cache.bytes_per_token kv_cache.indexer_bytes_per_token
    kv_cache.bytes_per_request_fixed kv_cache.total_bytes activations_bytes total_bytes
"""
ON_GPUS = """
    per_gpu.capacity_bytes per_gpu.budget_bytes per_gpu.weights_bytes per_gpu.activations_bytes
    per_gpu.non_torch_bytes per_gpu.graphs_bytes per_gpu.kv_available_bytes per_gpu.headroom_bytes
    kv_tokens max_concurrency fits
"""
DEPLOYMENT = """
    model dtype kv_dtype layout fits max_context kv_tokens max_concurrency concurrency_at.8192
    concurrency_at.32768 concurrency_at.131072 binding try
"""
FIT = " ".join(f"deployments.0.{key}" for key in DEPLOYMENT.split())
VALIDATE = """
    rows.0.id rows.0.metric rows.0.measured rows.0.predicted rows.0.error_frac rows.0.status
    rows.0.reason summary.rows summary.predicted summary.skipped summary.median_abs_error_frac
    summary.mape summary.p90_abs_error_frac
"""
CONTRACT = [
    ("params deepseek-v3", PARAMS),
    ("flops deepseek-v3", FLOPS),
    ("memory deepseek-v3.2", MEMORY),
    ("memory deepseek-v3.2 --gpus 8xH200", MEMORY + ON_GPUS),
    ("memory llama-3.1-405b --gpus 8xH100", MEMORY + ON_GPUS),
    ("fit --gpus 8xH100", FIT),
    ("fit llama-3.1-405b --gpus 8xH100", FIT + " deployments.0.try.0.option"),
    (f"validate params --data {RIGHT}", VALIDATE),
]


def value_at(document: object, path: str) -> object:
    for part in path.split("."):
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


@pytest.mark.parametrize(
    ("command", "keys"), CONTRACT, ids=[case[0].partition(" --data")[0] for case in CONTRACT]
)
def test_the_promised_keys_are_there(command, keys):
    answer = json.loads(llmplan(*command.split(), "--format", "json").stdout)

    for key in keys.split():
        value = value_at(answer["result"], key)
        assert value is not None, key
        if key.endswith("_bytes"):
            assert type(value) is int, key
    assert list(answer) == [
        "schema_version", "llmplan", "command", "inputs", "result", "warnings",
    ]  # fmt: skip
    assert answer["schema_version"] == 1
    assert answer["command"] == command.split()[0]


def test_inputs_spell_out_every_default():
    answer = json.loads(llmplan("memory", "kimi-k2", "--format", "json").stdout)

    inputs = answer["inputs"]
    for name in ("dtype", "kv_dtype", "state_dtype", "indexer_dtype"):
        assert inputs[name] == ("native" if name == "dtype" else "bf16")
    assert (inputs["context"], inputs["batch"]) == (8192, 1)
    assert (inputs["mtp"], inputs["text_only"]) == (False, False)


def test_a_bare_gpu_name_is_spelt_out():
    answer = json.loads(llmplan("memory", SMALL, "--gpus", "A100", "--format", "json").stdout)

    assert answer["inputs"]["device"] == "a100-80gb-sxm"


EXAMPLES = ("earlier", "example")
"""Calibration profiles."""
RESULTS = [
    ("models",),
    ("models", SMALL),
    ("hardware",),
    ("hardware", "h100"),
    ("hardware", "--dtypes"),
    ("params", "gemma-3-27b"),
    ("params", SMALL, "--explain"),
    ("flops", "deepseek-v3", "--explain"),
    ("flops", "flux.1-dev", "--explain"),
    ("flops", SMALL, "--gpus", "h100", "--step-time", "12ms"),
    ("memory", "qwen3-next-80b-a3b", "--explain"),
    ("memory", "qwen3-next-80b-a3b", "--gpus", "2xH200", "--explain"),
    ("fit", "--gpus", "8xH100"),
    ("fit", "llama-3.1-405b", "--gpus", "8xH100"),
    ("place", "mixtral-8x7b", "--gpus", "2n4xH100", "--ep", "4", "--zipf", "1", "--pp", "2"),
    ("estimate", SMALL, "--gpus", "h100", "--concurrency", "1,8", "--ttft", "9s", "--explain"),
    ("estimate", SMALL, "--gpus", "h100", "--rate", "1000"),
    ("estimate", "llama-3.1-405b", "--gpus", "h100"),
    ("estimate", SMALL, "--gpus", "h200", "--profile", str(FILES / "example.calibrated.yaml")),
    ("import", CONFIG),
    ("verify", SMALL, "--against", CONFIG),
    ("validate", "params", "--data", WRONG),
    ("reconcile", str(FILES / "start.log")),
    ("reconcile", "--list"),
    ("explain",),
    ("explain", "weights_bytes"),
    ("calibrate", "show", str(FILES / "example.calibrated.yaml")),
    ("calibrate", "diff", *(str(FILES / f"{name}.calibrated.yaml") for name in EXAMPLES)),
]


def test_every_command_is_checked_against_the_schema():
    commands = (*app.registered_commands, *app.registered_groups)
    answering = {command.name for command in commands} - {"schema"}

    assert {arguments[0] for arguments in RESULTS} == answering


@pytest.mark.parametrize("arguments", RESULTS, ids=lambda arguments: " ".join(arguments[:2]))
def test_results_obey_the_published_schema(arguments):
    schema = json.loads((ROOT / "docs" / "result.schema.json").read_text())

    answer = json.loads(llmplan(*arguments, "--format", "json").stdout)

    jsonschema.validate(answer, schema)


# -- schemas -------------------------------------------------------------------------------------

SCHEMA_FILES = {
    "model": ROOT / "specs" / "model.schema.json",
    "listed": ROOT / "specs" / "listed" / "listed.schema.json",
    "device": ROOT / "hardware" / "device.schema.json",
    "node": ROOT / "hardware" / "node.schema.json",
    "result": ROOT / "docs" / "result.schema.json",
}


@pytest.mark.parametrize(("kind", "path"), SCHEMA_FILES.items())
def test_schema_files_are_not_stale(kind, path):
    assert llmplan("schema", kind).stdout == path.read_text(), "run `make schema`"


@pytest.mark.parametrize("kind", SCHEMA_FILES)
def test_schemas_are_schemas(kind):
    schema = json.loads(llmplan("schema", kind).stdout)

    jsonschema.validators.validator_for(schema).check_schema(schema)


def as_editors_read(path: Path) -> object:
    """A YAML file with dates as text."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))


DOCUMENTS = {
    "model": spec_paths(),
    "listed": [shipped_folder("specs") / "listed" / "listed.yaml"],
    "device": sorted((shipped_folder("hardware") / "devices").glob("*.yaml")),
    "node": sorted((shipped_folder("hardware") / "nodes").glob("*.yaml")),
}


@pytest.mark.parametrize(("kind", "paths"), DOCUMENTS.items(), ids=DOCUMENTS)
def test_every_shipped_file_obeys_its_schema(kind, paths):
    schema = json.loads(SCHEMA_FILES[kind].read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)

    wrong = {
        path.name: [error.message for error in validator.iter_errors(document)]
        for path in paths
        if not validator.is_valid(document := as_editors_read(path))
    }

    assert paths
    assert wrong == {}


@pytest.mark.parametrize(("kind", "paths"), DOCUMENTS.items(), ids=DOCUMENTS)
def test_every_shipped_file_names_its_schema_for_editors(kind, paths):
    for path in paths:
        first = path.read_text().partition("\n")[0]
        named = first.removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / named).resolve() == SCHEMA_FILES[kind], path.name


# -- completion ----------------------------------------------------------------------------------


def test_names_are_completed():
    assert "kimi-k2" in options.complete_model("KIMI-K2".lower())
    assert options.complete_model("") == list(model_names())
    assert "h100-sxm" in options.complete_device("h1")
    assert "fp8_channel" in options.complete_dtype("fp8_c")
    assert "fp8_channel" not in options.complete_state_dtype("fp8")


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("h100-s", ["h100-sxm"]),
        ("8xh100-s", ["8xh100-sxm"]),
        ("8xH100-s", ["8xH100-sxm"]),
        ("2n8xh100-s", ["2n8xh100-sxm"]),
        ("rtx-509", ["rtx-5090"]),
        ("4xrtx-509", ["4xrtx-5090"]),
        ("8xnothing", []),
    ],
)
def test_gpus_are_completed_behind_their_count(typed, completed):
    assert options.complete_gpus(typed) == completed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("llmplan memory kimi-k2-", ["kimi-k2-thinking"]),
        ("llmplan memory kimi-k2 --gpus 8xH100-s", ["8xH100-sxm"]),
        ("llmplan memory kimi-k2 --kv-dtype fp8_e4", ["fp8_e4m3"]),
        ("llmplan hardware mi300", ["mi300x"]),
        ("llmplan mem", ["memory"]),
    ],
)
def test_the_shell_gets_completions(words, expected):
    protocol = {
        "_LLMPLAN_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }

    assert piped(**protocol).split() == expected


# -- failures ------------------------------------------------------------------------------------


def fail_with(monkeypatch, error: Exception) -> None:
    """Make ``llmplan models`` raise ``error``."""

    def ask(_question):
        raise error

    monkeypatch.setattr("llmplan.results.listing.ModelsQuestion.ask", ask)


def test_an_unknown_exception_is_a_bug_with_its_traceback(monkeypatch):
    fail_with(monkeypatch, ZeroDivisionError("here"))

    outcome = llmplan("models")

    assert outcome.exit_code == 70
    assert outcome.stdout == ""
    assert "ZeroDivisionError: here" in outcome.stderr
    assert "this is a bug in llmplan" in outcome.stderr


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (LlmplanError("what and where"), 2),
        (LayoutError("what and where"), 2),
        (MissingPartError("what and where"), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_ours_is_one_line(monkeypatch, error, exit_code):
    fail_with(monkeypatch, error)

    outcome = llmplan("models")

    assert (outcome.exit_code, outcome.stdout) == (exit_code, "")
    assert outcome.stderr == "error: what and where\n"


def test_an_interrupt_is_quiet(monkeypatch):
    fail_with(monkeypatch, KeyboardInterrupt())

    outcome = llmplan("models")

    assert outcome.exit_code == 130
    assert "Traceback" not in outcome.stderr


def test_an_unknown_family_is_answered_with_the_known_ones():
    outcome = llmplan("models", "--family", "kimmi")

    assert outcome.exit_code == 2
    assert "Did you mean kimi" in outcome.stderr
    assert "Known: " in outcome.stderr


def test_the_module_is_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "llmplan", "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout == piped("--version")


def test_every_command_and_option_has_help():
    command = typer.main.get_command(app)

    for name, sub in command.commands.items():
        assert sub.help, name
        for parameter in sub.params:
            assert parameter.help, f"{name} {parameter.name}"
