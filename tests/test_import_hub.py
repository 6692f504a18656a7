"""``llmplan import ORG/NAME`` against a server on this machine; the network is never used."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import pytest

from tests.program import llmplan
from tests.stored_files import LLAMA_CONFIG, llama_tensors, safetensors_bytes

needs_hub = pytest.mark.skipif(not find_spec("huggingface_hub"), reason="needs the hub extra")
PROGRAM = Path(sys.executable).with_name("llmplan")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[str]:
    """A hub with the one repository example/small."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, *, body: bool) -> None:
            found = re.fullmatch(r"/example/small/resolve/[^/]+/(.+)", self.path)
            raw = files.get(found[1]) if found else None
            if raw is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
            shown = raw[int(part[1]) : int(part[2]) + 1] if part else raw
            self.send_response(206 if part else 200)
            self.send_header("ETag", '"0123456789"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(shown)))
            self.end_headers()
            if body:
                self.wfile.write(shown)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def imported(endpoint: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {
        k: v for k, v in os.environ.items() if "HF_" not in k and "proxy" not in k.lower()
    }
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [PROGRAM, "import", "example/small", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment | own,
    )


CONFIG = json.dumps(LLAMA_CONFIG).encode()


@needs_hub
def test_a_repository_is_imported_with_the_formats_of_its_tensors(tmp_path):
    files = {
        "config.json": CONFIG,
        "model.safetensors": safetensors_bytes(llama_tensors("F16")),
    }
    with hub(files) as endpoint:
        done = imported(endpoint, tmp_path, "--format", "json")

    assert done.returncode == 0, done.stderr
    spec = json.loads(done.stdout)["result"]["spec"]
    assert (spec["name"], spec["hf_ids"]) == ("small", ["example/small"])
    assert spec["source"]["revision"] == COMMIT
    assert set(spec["precision"].values()) == {"fp16"}


@needs_hub
def test_a_repository_without_safetensors_gives_its_config(tmp_path):
    with hub({"config.json": CONFIG}) as endpoint:
        done = imported(endpoint, tmp_path)

    assert done.returncode == 0, done.stderr
    assert "no safetensors headers" in done.stdout


@needs_hub
def test_a_config_beyond_the_limit_is_not_fetched(tmp_path):
    with hub({"config.json": CONFIG + b" " * 8_000_001}) as endpoint:
        done = imported(endpoint, tmp_path)

    assert done.returncode == 2
    assert "larger than 8,000,000 bytes" in done.stderr


@needs_hub
def test_offline_it_is_said_what_failed_and_what_to_do(tmp_path):
    done = imported("http://127.0.0.1:9", tmp_path)

    assert done.returncode == 2
    assert "config.json of 'example/small' could not be fetched" in done.stderr
    assert "Download the config.json, and give its path instead" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_library_the_command_that_installs_it_is_given(monkeypatch):
    monkeypatch.setattr("llmplan.model.importing.hub.find_spec", lambda _: None)

    done = llmplan("import", "example/small")

    assert done.exit_code == 3
    assert "pip install 'llmplan[hub]'" in " ".join(done.stderr.split())
