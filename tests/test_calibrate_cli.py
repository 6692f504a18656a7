"""``llmplan calibrate``: what it says to mistakes, and how profiles are looked after."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from llmplan.catalogs import own_folders
from llmplan.hardware import catalogue
from llmplan.model.catalogue import load_model
from llmplan.perf.calibration import calibration_path, load, save, written
from llmplan.perf.fingerprint import fingerprint
from llmplan.perf.points import SPREAD
from llmplan.perf.refit import refitted
from tests.made_profile import GEMM, RATES, SLUG, made_profile
from tests.program import llmplan

needs_torch = pytest.mark.skipif(not find_spec("torch"), reason="needs the calibrate extra")
needs_scipy = pytest.mark.skipif(not find_spec("scipy"), reason="needs the calibrate extra")
BLOCKED = """
import sys
sys.modules["torch"] = None
from llmplan.cli.main import run
sys.argv = ["llmplan", *sys.argv[1:]]
run()
"""
"""The program in an interpreter that has no torch."""
NCCL = """# nThread 1 nGpus 4 minBytes 1024 maxBytes 67108864 step: 2(factor) warmup iters: 5
#  Rank  0 Group  0 Pid   77 on    node1 device  0 [0x0f] NVIDIA H100 80GB HBM3
#  Rank  1 Group  0 Pid   77 on    node1 device  1 [0x0f] NVIDIA H100 80GB HBM3
#  Rank  2 Group  0 Pid   77 on    node1 device  2 [0x0f] NVIDIA H100 80GB HBM3
#  Rank  3 Group  0 Pid   77 on    node1 device  3 [0x0f] NVIDIA H100 80GB HBM3
#
#                                                              out-of-place
#       size         count      type   redop    root     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)
        1024           256     float     sum      -1     8.00    0.13    0.19      0
     1048576        262144     float     sum      -1    20.00   52.43   78.64      0
    16777216       4194304     float     sum      -1    100.0  167.77  251.66      0
    67108864      16777216     float     sum      -1    320.0  209.71  314.57      0
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty personal catalogue."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LLMPLAN_CATALOG", raising=False)
    yield tmp_path / "home"
    forget()


def forget():
    """Devices are read once a process."""
    for kept in (catalogue._shipped_device, catalogue._slugs_by_key, catalogue._default_nodes):
        kept.cache_clear()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mine.yaml"
    save(made_profile(), path)
    return path


def said(outcome, exit_code=2):
    assert outcome.exit_code == exit_code, outcome.stderr
    assert not outcome.stdout
    return " ".join(outcome.stderr.split())


def answer(*arguments):
    outcome = llmplan(*arguments, "--format", "json")
    assert outcome.exit_code == 0, outcome.stderr
    return json.loads(outcome.stdout)


def without_torch(*arguments):
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *arguments], capture_output=True, text=True, check=False
    )


# --- what is missing


def test_without_torch_the_command_that_installs_it_is_named():
    done = without_torch("calibrate", "--device", "cpu")
    assert done.returncode == 3
    assert not done.stdout
    assert "pip install 'llmplan[calibrate]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@needs_scipy
def test_profiles_are_looked_after_without_torch(path):
    path.write_text(written(made_profile(2.0, curves="f" * 64, llmplan="0.0.9")))
    done = without_torch("calibrate", "refit", str(path))
    assert done.returncode == 0, done.stderr
    assert load(path).curves == fingerprint()
    done = without_torch("calibrate", "show", str(path))
    assert done.returncode == 0, done.stderr
    assert "aten_mm" in done.stdout


@needs_torch
def test_without_a_gpu_the_processor_is_offered(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "`--device cpu` runs on the processor" in said(llmplan("calibrate"), 3)


@needs_torch
def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "--device cuda:2: torch sees 2 GPUs" in said(llmplan("calibrate", "--device", "cuda:2"))


# --- options that cannot be


@needs_torch
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--budget", "5"), "'5' is no time. Write a positive number with its unit"),
        (("--budget", "0s"), "'0s' is no time"),
        (("--budget", "-5m"), "'-5m' is no time"),
        (("--device", "tpu"), "--device tpu: write cuda, cuda:1 (the second GPU) or cpu"),
        (("--device", "cuda:x"), "--device cuda:x: write cuda"),
        (("--skew", "9"), "--skew: write a power from 0 to 3"),
        (("--skew", "-1"), "--skew: write a power from 0 to 3"),
        (("--skew", "nan"), "--skew: write a power from 0 to 3"),
        (("--models", ","), "--models: write names separated by commas"),
        (("--models", ""), "--models: write names separated by commas"),
        (("--models", "qwen3-0.6b,"), "--models: write names separated by commas"),
        (("--models", "qwen3-0.6c"), "unknown model 'qwen3-0.6c'. Did you mean qwen3-0.6b"),
        (("--models", "none.yaml"), "none.yaml"),
        (("--models", "flux.1-dev"), "flux.1-dev is a diffusion pipeline"),
        (("--dtypes", "bf17"), "bf17"),
        (("--dtypes", "bf16,"), "''"),
        (("--ranks", "0"), "--ranks"),
        (("--tp", "0"), "--tp"),
        (("--models", "qwen3-0.6b", "--tp", "7"), "7 does not split q_proj"),
        (("--models", "qwen3-0.6b", "--ep"), "has no routed experts"),
    ],
)  # fmt: skip
def test_mistakes_are_said_before_anything_is_measured(options, reason, monkeypatch, home):
    from llmplan.calibrate import question

    def measured(*_arguments):
        raise AssertionError

    monkeypatch.setattr(question, "measured_peaks", measured)
    monkeypatch.setattr(question, "calibrated", measured)
    device = () if "--device" in options else ("--device", "cpu")
    found = said(llmplan("calibrate", *device, *options))
    assert reason in found
    assert not home.exists()


@needs_torch
@pytest.mark.parametrize("where", [".", "file/x.yaml"])
def test_a_profile_that_cannot_be_written_is_said_at_once(tmp_path, monkeypatch, where):
    from llmplan.calibrate import question, session

    monkeypatch.setattr(question, "_device", lambda _machine: (SLUG, RATES, None))
    monkeypatch.setattr(session, "measure", None)
    (tmp_path / "file").write_text("")
    found = said(
        llmplan(
            "calibrate", "--device", "cpu", "--models", "qwen3-0.6b", "--profile",
            str(tmp_path / where),
        )
    )  # fmt: skip
    assert str(tmp_path) in found


@needs_torch
def test_nothing_measured_is_no_profile(tmp_path, monkeypatch):
    from llmplan.calibrate import question

    monkeypatch.setattr(question, "_device", lambda _machine: (SLUG, RATES, None))
    path = tmp_path / "x.yaml"
    found = said(
        llmplan(
            "calibrate", "--device", "cpu", "--models", "qwen3-0.6b", "--budget", "1ms",
            "--profile", str(path),
        )
    )  # fmt: skip
    assert "nothing was measured: give it more time with --budget" in found
    assert not path.exists()


@needs_torch
def test_a_dry_run_measures_and_writes_nothing(tmp_path, monkeypatch, home):
    from llmplan.calibrate import question

    monkeypatch.setattr(question, "_device", lambda _machine: (SLUG, RATES, None))
    monkeypatch.setattr(question, "calibrated", None)
    path = tmp_path / "x.yaml"
    found = answer(
        "calibrate", "--device", "cpu", "--models", "qwen3-0.6b", "--budget", "5s", "--profile",
        str(path), "--dry-run",
    )  # fmt: skip
    assert found["result"]["is_dry_run"]
    assert found["result"]["expected_s"] == 5
    assert found["result"]["profile"] is None
    kinds = {(row["kind"], row["format"]): row["points"] for row in found["result"]["grid"]}
    assert kinds["Linear", "bf16"] > 20
    assert kinds["Attention", ""] > 20
    assert "Experts" not in {kind for kind, _ in kinds}  # nobody asked for a model with some
    assert list(tmp_path.iterdir()) == []
    assert not home.exists()


@needs_torch
def test_an_interrupted_run_says_that_it_goes_on(monkeypatch):
    from llmplan.calibrate import question

    def stopped(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(question, "_device", lambda _machine: (SLUG, RATES, None))
    monkeypatch.setattr(question, "calibrated", stopped)
    outcome = llmplan("calibrate", "--device", "cpu", "--models", "qwen3-0.6b")
    assert outcome.exit_code == 130
    assert "the same command goes on with what was measured" in outcome.stderr


@needs_torch
@pytest.mark.parametrize(
    ("source", "is_own"), [("measured by llmplan calibrate, torch 2", True), ("a page", False)]
)
def test_peaks_that_were_measured_here_are_measured_again(monkeypatch, source, is_own):
    """A first calibration writes the device's file: the second may find that it was too slow."""
    from llmplan.calibrate import question
    from llmplan.calibrate.machine import machine_at_hand
    from llmplan.calibrate.peaks import MeasuredPeaks

    peaks = MeasuredPeaks(bytes_per_s=1e9, fp32_flops_per_s=1e9, bf16_flops_per_s=4e9, note="")
    monkeypatch.setattr(question, "measured_peaks", lambda _place, _limits: peaks)
    slug, first, document = question._device(machine_at_hand("cpu"))
    question._keep_device(slug, {**document, "source": source})
    forget()
    assert (own_folders()[0] / "hardware" / "devices" / f"{slug}.yaml").is_file()
    faster = MeasuredPeaks(bytes_per_s=5e8, fp32_flops_per_s=2e9, bf16_flops_per_s=4e9, note="")
    monkeypatch.setattr(question, "measured_peaks", lambda _place, _limits: faster)
    machine = machine_at_hand("cpu")
    assert machine.slug == slug
    _, second, document = question._device(machine)
    assert (document is not None) == is_own
    assert second.flops_per_s["fp32"] == first.flops_per_s["fp32"] * (2 if is_own else 1)
    assert second.bytes_per_s == first.bytes_per_s  # a busy moment is no slower device


# --- profiles


def test_a_profile_is_shown(path):
    result = answer("calibrate", "show", str(path))["result"]
    assert (result["device"], result["date"]) == (SLUG, "2026-11-22")
    kernels = {row["kernel"]: row for row in result["operators"]}
    assert kernels["aten_mm"]["points"] == 25
    assert kernels["aten_mm"]["residual_median"] < 1e-6
    assert 0 < kernels["aten_mm"]["efficiency"] < 1
    assert result["layer_median_error_frac"] == pytest.approx(0.1)


def test_a_profile_is_shown_by_the_name_of_its_device(home):
    found = said(llmplan("calibrate", "show", SLUG))
    assert f"no calibration of {SLUG} was found: `llmplan calibrate` there makes one" in found
    save(made_profile(), calibration_path(SLUG))
    shown = answer("calibrate", "show", "H100")["result"]
    assert shown["profile"] == str(calibration_path(SLUG))
    assert shown["profile"].startswith(str(home))


def test_a_profile_of_other_curves_is_shown(path):
    path.write_text(written(made_profile(curves="f" * 64)))
    assert answer("calibrate", "show", str(path))["result"]["device"] == SLUG


@pytest.mark.parametrize("command", ["show", "refit", "export"])
def test_what_is_no_profile_is_said(command, tmp_path):
    assert "is no file" in said(llmplan("calibrate", command, str(tmp_path / "x.yaml")))
    (tmp_path / "x.yaml").write_bytes(b"\x00\xff")
    assert "x.yaml" in said(llmplan("calibrate", command, str(tmp_path / "x.yaml")))
    assert "h100-xsm" in said(llmplan("calibrate", command, "h100-xsm"))


@pytest.mark.parametrize("command", ["show", "refit", "export"])
def test_an_edited_profile_is_refused_by_all_but_import(command, path):
    path.write_text(path.read_text().replace("budget_s: 60", "budget_s: 61"))
    found = said(llmplan("calibrate", command, str(path)))
    assert "was edited or damaged: its content has another hash" in found
    assert f"llmplan calibrate import {path}" in found


def test_a_profile_is_as_fast_as_itself(path):
    changes = answer("calibrate", "diff", str(path), str(path))["result"]["changes"]
    assert [(row["kernel"], row["times"], row["only"]) for row in changes] == [
        ("aten_mm", 1.0, ""), ("aten_rms_norm", 1.0, ""),
    ]  # fmt: skip


@needs_scipy
def test_a_profile_beside_a_slower_one(path, tmp_path):
    slow = tmp_path / "slow.yaml"
    save(refitted(made_profile(2.0), RATES), slow)
    changes = answer("calibrate", "diff", str(path), str(slow))["result"]["changes"]
    assert [row["times"] for row in changes] == [pytest.approx(2, rel=0.01)] * 2
    changes = answer("calibrate", "diff", str(slow), str(path))["result"]["changes"]
    assert [row["times"] for row in changes] == [pytest.approx(0.5, rel=0.01)] * 2


def test_profiles_of_two_devices_are_not_compared(path, tmp_path):
    other = tmp_path / "other.yaml"
    device = made_profile().device.model_copy(update={"slug": "h200-sxm"})
    save(made_profile(device=device), other)
    found = said(llmplan("calibrate", "diff", str(path), str(other)))
    assert "compare two profiles of one device" in found


# --- measurements that come and go


def exported(path, folder):
    folder.mkdir()
    result = answer("calibrate", "export", str(path), "--folder", str(folder))["result"]
    return [Path(name) for name in result["files"]]


@needs_scipy
def test_what_is_exported_and_imported_gives_the_same_kernels(path, tmp_path):
    save(refitted(made_profile(2.0), RATES), path)
    files = exported(path, tmp_path / "tables")
    assert [file.name for file in files] == [f"{SLUG}_gemm.csv", f"{SLUG}_by_work.csv"]
    again = tmp_path / "again.yaml"
    result = answer(
        "calibrate", "import", *map(str, files), "--gpu", SLUG, "--profile", str(again)
    )["result"]  # fmt: skip
    assert (result["kernels"], result["points"], result["skipped"]) == (2, 37, [])
    assert load(again).kernels == load(path).kernels


def test_folders_that_are_not_there_are_said(path, tmp_path):
    found = said(llmplan("calibrate", "export", str(path), "--folder", str(tmp_path / "none")))
    assert "is no folder: make it first" in found


def test_an_edited_profile_is_taken_over_by_import(path, tmp_path):
    path.write_text(path.read_text().replace("budget_s: 60", "budget_s: 61"))
    taken = tmp_path / "taken.yaml"
    answer("calibrate", "import", str(path), "--profile", str(taken))
    assert load(taken).budget_s == 61
    answer("calibrate", "import", str(path))
    assert load(calibration_path(SLUG)).budget_s == 61
    found = said(llmplan("calibrate", "import", str(path), "--gpu", "h200-sxm"))
    assert f"is of {SLUG}, not of h200-sxm" in found


@needs_scipy
def test_a_profile_of_other_curves_is_fitted_anew_by_import(path, tmp_path):
    path.write_text(written(made_profile(2.0, curves="f" * 64, llmplan="0.0.9")))
    taken = tmp_path / "taken.yaml"
    found = answer("calibrate", "import", str(path), "--profile", str(taken))
    assert "fitted anew: its curves were of llmplan 0.0.9." in found["warnings"]
    assert load(taken).kernels == refitted(made_profile(2.0), RATES).kernels
    assert load(taken).layer_error is None


@needs_scipy
def test_output_of_nccl_tests_joins_what_was_measured(tmp_path):
    save(made_profile(), calibration_path(SLUG))
    log = tmp_path / "all_reduce_perf.txt"
    log.write_text(NCCL)
    found = answer("calibrate", "import", str(log), "--gpu", SLUG)
    assert found["result"]["kernels"] == 3
    joined = load(calibration_path(SLUG))
    assert {k.operator for k in joined.kernels} == {"gemm", "by_work", "collectives"}
    (nccl,) = [k for k in joined.kernels if k.operator == "collectives"]
    assert (nccl.labels["op"], nccl.rows, nccl.ranges["gpus"]) == ("all_reduce", 4, (4.0, 4.0))
    assert f"imported: {log}" in joined.notes


@needs_scipy
def test_an_import_leaves_the_day_of_what_was_measured(tmp_path):
    save(made_profile(), calibration_path(SLUG))
    log = tmp_path / "all_reduce_perf.txt"
    log.write_text(NCCL)
    found = answer("calibrate", "import", str(log), "--gpu", SLUG)
    assert load(calibration_path(SLUG)).date == made_profile().date
    assert "layers were predicted without what is imported" in found["warnings"][-1]


def test_a_table_named_after_another_gpu_is_refused(tmp_path):
    table = tmp_path / "h200-sxm_gemm.csv"
    table.write_text("src,kernel,dtype,m,n,k,latency_ms\nme/1,mine,bfloat16,16,4096,4096,0.02\n")
    found = said(llmplan("calibrate", "import", str(table), "--gpu", SLUG))
    assert f"is named after h200-sxm, and --gpu says {SLUG}" in found
    assert not calibration_path(SLUG).exists()


@pytest.mark.parametrize(
    ("sources", "options", "reason"),
    [
        (("x.csv",), (), "say which GPU was measured: --gpu"),
        (("x.csv",), ("--gpu", SLUG), "x.csv cannot be read"),
        (("x.csv",), ("--gpu", "h100-xsm"), "h100-xsm"),
        (("x.yaml", "x.csv"), ("--gpu", SLUG), "take over one profile at a time"),
        (("x.yaml",), (), "x.yaml"),
    ],
)
def test_mistakes_of_imports(sources, options, reason, tmp_path):
    names = [str(tmp_path / source) for source in sources]
    assert reason in said(llmplan("calibrate", "import", *names, *options))


@needs_scipy
def test_a_profile_fitted_again_holds_the_same_points(path):
    before = load(path)
    found = answer("calibrate", "refit", str(path))
    after = load(path)
    assert after.points == before.points
    assert [k.labels for k in after.kernels] == [k.labels for k in before.kernels]
    assert after.kernels[0].parameters == pytest.approx(before.kernels[0].parameters, rel=1e-3)
    assert after.layers[0].measured_s == before.layers[0].measured_s
    assert after.layer_error is None
    assert "layers were predicted by the earlier curves" in " ".join(found["warnings"])
    assert GEMM["src"] in path.read_text()
    assert SPREAD in path.read_text()


# --- where a run keeps what it has


@needs_torch
@pytest.mark.parametrize("name", ["x.yaml", "x.partial", "x"])
def test_what_an_interrupted_run_left_goes_and_the_profile_stays(tmp_path, monkeypatch, name):
    from llmplan.calibrate import question

    journals = []

    def done(order, _tick):
        order.journal.write_text("rows")
        journals.append(order.journal)
        return made_profile()

    monkeypatch.setattr(question, "_device", lambda _machine: (SLUG, RATES, None))
    monkeypatch.setattr(question, "calibrated", done)
    path = tmp_path / name
    answer("calibrate", "--device", "cpu", "--models", "qwen3-0.6b", "--profile", str(path))
    assert load(path).kernels == made_profile().kernels
    assert journals == [tmp_path / f"{name}.partial"]
    assert not journals[0].exists()


@needs_torch
def test_a_model_is_split_no_further_than_its_widths_allow():
    """14 heads are two times seven: what does not fit on fewer is measured over two."""
    from llmplan.calibrate.grid import Room
    from llmplan.calibrate.question import _layout

    model = load_model("qwen2.5-0.5b").served(mtp=False, vision=False)
    assert _layout(model, 10**7, Room(1e12, 1.0)).tp == 2
    assert _layout(model, 10**12, Room(1e12, 1.0)).tp == 1


@needs_torch
def test_experts_are_shared_until_they_fit_into_the_inputs_of_a_point():
    """Those of a layer of OLMoE are 805 MB."""
    from llmplan.calibrate.grid import Room
    from llmplan.calibrate.question import _layout

    model = load_model("olmoe-1b-7b").served(mtp=False, vision=False)
    assert _layout(model, 10**12, Room(256e6, 1.0)).tp == 8
    assert _layout(model, 10**12, Room(1e9, 1.0)).tp == 2
