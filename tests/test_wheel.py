"""The wheel stands alone: built, installed without the checkout, and run far from it."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from llmplan.hardware.catalogue import device_names, node_names
from llmplan.model.catalogue import model_names

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from the checkout by the installed back end: no network is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("llmplan-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A fresh environment with nothing but the wheel; dependencies are lent by this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    target = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index",
         "--quiet", "--disable-pip-version-check", wheel],
        check=True,
        capture_output=True,
    )  # fmt: skip
    # a plain path entry: unlike a site folder, it does not run the .pth file of an editable install
    Path(target, "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the fresh environment in an empty folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [installed / "bin" / command[0], *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_holds_the_catalogue(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())

    data = "llmplan/_data"
    assert {f"{data}/specs/{name}.yaml" for name in model_names()} <= names
    assert {f"{data}/hardware/devices/{name}.yaml" for name in device_names()} <= names
    assert {f"{data}/hardware/nodes/{name}.yaml" for name in node_names()} <= names
    assert f"{data}/specs/model.schema.json" in names
    assert "llmplan/py.typed" in names


def test_the_wheel_holds_nothing_else(wheel):
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}

    assert {top for top in tops if not top.startswith("llmplan-")} == {"llmplan"}
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "__pycache__" in name]


def test_the_wheel_is_what_runs(installed, tmp_path):
    code = (
        "import llmplan, llmplan.documents as d; print(llmplan.__file__, d.shipped_folder('specs'))"
    )

    done = run(installed, tmp_path, "python", "-c", code)

    package, specs = done.stdout.split()
    assert Path(package).is_relative_to(installed)
    assert Path(specs).is_relative_to(installed)


@pytest.mark.parametrize(
    ("command", "shows"),
    [
        (("llmplan", "memory", "kimi-k2"), "958.49 GiB"),  # 1,029,173,249,888 bytes
        (("llmplan", "fit", "--gpus", "8xH100"), "llama-3.1-405b"),
        (("llmplan", "memory", "meta-llama/Llama-3.1-8B", "--gpus", "A100"), "a100-80gb-sxm"),
        (("llmplan", "schema", "result"), '"schema_version"'),
        (("python", "-m", "llmplan", "params", "mixtral-8x7b"), "46,702,792,704"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_commands_run_far_from_the_checkout(installed, tmp_path, command, shows):
    done = run(installed, tmp_path, *command)

    assert done.returncode == 0, done.stderr
    assert shows in done.stdout
    assert "Traceback" not in done.stderr


def test_file_and_line_of_a_shipped_spec_are_short(installed, tmp_path):
    done = run(installed, tmp_path, "llmplan", "params", "llama-3.1-8b", "--explain")

    assert "(specs/llama-3.1-8b.yaml:" in done.stdout
