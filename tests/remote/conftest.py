"""A bucket on a local S3 server."""

import os

import pytest

pytest.importorskip("moto", reason="moto is not installed (extra test)")
pytest.importorskip("s3fs", reason="s3fs is not installed (extra s3)")

from tests.support.object_store import CREDENTIALS, Bucket, ObjectStore


@pytest.fixture(scope="session")
def server():
    """An S3 server for all tests."""
    server = ObjectStore()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(server, request, tmp_path, monkeypatch):
    """A new bucket, the environment that leads to it, and a folder of its own for temporary files."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    server.mishap = lambda number, method: None
    return Bucket(server, f"b{abs(hash(request.node.name))}")
