"""Catalogues of one's own: which folder counts, and what is said of it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmplan.documents import shipped_folder

SMALL = Path(__file__).parent / "golden" / "files" / "small.yaml"
H100 = shipped_folder("hardware") / "devices" / "h100-sxm.yaml"


@dataclass(frozen=True)
class Home:
    """A user's home: an empty working folder, and nothing in the personal catalogue."""

    folder: Path

    @property
    def personal(self) -> Path:
        return self.folder / "share" / "llmplan"

    def llmplan(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run in a process of its own: devices are read once a process."""
        unset = ("LLMPLAN_CATALOG", "FORCE_COLOR")
        environment = {k: v for k, v in os.environ.items() if k not in unset}
        return subprocess.run(
            [sys.executable, "-m", "llmplan", *arguments],
            cwd=self.folder,
            env={**environment, "XDG_DATA_HOME": str(self.folder / "share"), **variables},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path)


def spec_in(catalogue: Path, name: str, **changes: str) -> Path:
    """The small model under another name, with values of keys changed."""
    lines = SMALL.read_text().splitlines()
    values = {"name": name, "hf_ids": f"[example/{name}]", **changes}
    changed = [
        f"{key}: {values[key]}" if (key := line.partition(":")[0]) in values else line
        for line in lines
    ]
    path = catalogue / "specs" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(changed) + "\n")
    return path


def device_in(catalogue: Path, slug: str, text: str) -> Path:
    path = catalogue / "hardware" / "devices" / f"{slug}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def package_in(site: Path, module: str, entry: str | None = None) -> Path:
    """An installed package with an entry point, as pip leaves one behind."""
    package = site / module
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('no code of a catalogue is run')\n")
    information = site / f"{module}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        f"[llmplan.catalogs]\nexample = {entry or module}\n"
    )
    return package


def test_the_variable_names_folders_nearest_first(home, tmp_path):
    spec_in(tmp_path / "near", "house", vocab_size="1000")
    spec_in(tmp_path / "far", "house", vocab_size="2000")
    spec_in(tmp_path / "far", "barn")
    folders = os.pathsep.join(str(tmp_path / name) for name in ("near", "far"))

    house = home.llmplan("params", "house", LLMPLAN_CATALOG=folders)
    barn = home.llmplan("params", "barn", LLMPLAN_CATALOG=folders)

    assert f"{1000 * 512:,}" in house.stdout
    assert f"note: house is read from {tmp_path / 'near' / 'specs' / 'house.yaml'}." in house.stderr
    assert barn.returncode == 0, barn.stderr


def test_the_option_stands_before_the_variable_and_may_be_repeated(home, tmp_path):
    spec_in(tmp_path / "one", "house", vocab_size="1000")
    spec_in(tmp_path / "two", "house", vocab_size="2000")
    spec_in(tmp_path / "two", "barn")
    spec_in(tmp_path / "variable", "house", vocab_size="3000")
    options = ("--catalog", "one", "--catalog", "two")

    house = home.llmplan(*options, "params", "house", LLMPLAN_CATALOG=str(tmp_path / "variable"))
    barn = home.llmplan(*options, "params", "barn")

    assert f"{1000 * 512:,}" in house.stdout
    assert barn.returncode == 0, barn.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the personal folder follows XDG on Linux")
def test_the_personal_folder_is_read(home):
    spec_in(home.personal, "house")

    by_name = home.llmplan("params", "house")
    by_id = home.llmplan("params", "example/house")
    listed = home.llmplan("models", "--family", "test")

    for done in (by_name, by_id, listed):
        assert done.returncode == 0, done.stderr
        assert "house" in done.stdout


def test_a_replaced_model_is_said_aloud(home, tmp_path):
    path = spec_in(tmp_path / "own", "llama-3.1-8b")

    table = home.llmplan("--catalog", "own", "memory", "llama-3.1-8b")
    json = home.llmplan("--catalog", "own", "memory", "llama-3.1-8b", "--format", "json")

    assert f"note: llama-3.1-8b is read from {path}." in table.stderr
    assert f'"llama-3.1-8b is read from {path}."' in json.stdout


def test_a_replaced_device_is_said_aloud(home, tmp_path):
    text = H100.read_text().replace("name: H100 SXM5 80GB", "name: Our H100")
    path = device_in(tmp_path / "own", "h100-sxm", text)
    options = ("memory", "llama-3.1-8b", "--gpus", "h100-sxm")

    own = home.llmplan("--catalog", "own", *options)
    shipped = home.llmplan(*options)

    assert f"note: h100-sxm is read from {path}." in own.stderr
    assert "is read from" not in shipped.stderr
    assert "Our H100" in home.llmplan("--catalog", "own", "hardware", "H100").stdout


def test_a_folder_that_is_none_is_an_error(home):
    done = home.llmplan("--catalog", "nowhere", "models")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --catalog nowhere is no folder.\n"


def test_a_folder_without_catalogues_adds_nothing(home, tmp_path):
    (tmp_path / "empty").mkdir()

    done = home.llmplan("--catalog", "empty", "params", "llama-3.1-8b")

    assert (done.returncode, done.stderr) == (0, "")


def test_a_broken_spec_is_named_with_its_line(home, tmp_path):
    path = spec_in(tmp_path / "own", "house", vocab_size="many")
    line = path.read_text().splitlines().index("vocab_size: many") + 1

    one = home.llmplan("--catalog", "own", "params", "house")
    everything = home.llmplan("--catalog", "own", "models")

    for done in (one, everything):
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {path}:{line}, key vocab_size: ")


def test_a_package_adds_names_and_runs_no_code(home, tmp_path):
    package = package_in(tmp_path / "site", "example_catalogue")
    spec_in(package, "house")
    site = str(tmp_path / "site")

    done = home.llmplan("params", "house", PYTHONPATH=site)
    listed = home.llmplan("models", "--family", "test", PYTHONPATH=site)

    assert done.returncode == 0, done.stderr
    assert f"house is read from {package}" in done.stderr
    assert "house" in listed.stdout


def test_a_package_never_replaces_a_shipped_name(home, tmp_path):
    package = package_in(tmp_path / "site", "example_catalogue")
    spec_in(package, "llama-3.1-8b")
    site = str(tmp_path / "site")

    done = home.llmplan("params", "llama-3.1-8b", PYTHONPATH=site)
    every = home.llmplan("models", "--format", "csv", PYTHONPATH=site)

    assert "8,030,261,248" in done.stdout
    assert "is read from" not in done.stderr
    assert "llama-3.1-8b,llama,8030261248," in every.stdout


def test_a_package_that_is_gone_is_left_out(home, tmp_path):
    package_in(tmp_path / "site", "example_catalogue", "missing_package.catalogue")

    done = home.llmplan("params", "house", PYTHONPATH=str(tmp_path / "site"))

    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown model 'house'.")
