"""Models of the Hub are pinned to a commit: against a test server that speaks the Hub's protocol."""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from loraline.errors import ModelLoadingError
from loraline.models.load import load_model
from loraline.sources.dataset import pin_dataset
from loraline.sources.model import fetch_model, pin_model
from loraline.sources.pin import Pin
from loraline.sources.weight_headers import read_weight_headers
from tests.loraline.tiny_models import save_tiny_model

COMMIT = "c0ffee" * 6 + "c0ff"


def _handler(folder: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if not path.startswith(("/api/models/own/tiny", "/api/datasets/own/tiny", "/own/tiny/resolve/")):
                self._answer(404, b"")
            elif "/resolve/" in path:
                self._answer(200, (folder / path.rsplit("/", 1)[1]).read_bytes())
            elif "/tree/" in path:
                self._answer(200, json.dumps([_listed(file) for file in folder.iterdir()]).encode())
            else:
                self._answer(200, json.dumps({"id": "own/tiny", "sha": COMMIT, "siblings": []}).encode())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(body)))
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    return Handler


def _listed(file: Path) -> dict[str, object]:
    content = file.read_bytes()
    return {"type": "file", "path": file.name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """A Hub with one model, own/tiny, and a cache of the test's own."""
    folder = save_tiny_model(tmp_path / "origin")
    (folder / "pytorch_model.bin").write_bytes(b"never fetched")
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server
        server.shutdown()


def test_a_model_is_pinned_and_fetched(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    assert pin_model("own/tiny", "main") == Pin(COMMIT, COMMIT)
    assert pin_dataset("hf://own/tiny").revision == COMMIT
    fetch_model("own/tiny", COMMIT, tmp_path / "got")
    assert not (tmp_path / "got" / "pytorch_model.bin").exists()
    assert load_model(tmp_path / "got")


def test_a_cached_model_needs_no_network(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    fetch_model("own/tiny", COMMIT, tmp_path / "first")
    hub.shutdown()
    hub.server_close()
    fetch_model("own/tiny", COMMIT, tmp_path / "second")
    assert {path.name for path in (tmp_path / "second").iterdir()} == {p.name for p in (tmp_path / "first").iterdir()}


@pytest.mark.usefixtures("hub")
def test_a_model_that_the_hub_does_not_have_is_an_error_with_advice() -> None:
    with pytest.raises(ModelLoadingError, match=r"'own/other' cannot be fetched .*HF_TOKEN"):
        pin_model("own/other")


def test_headers_of_the_weights_are_read_without_them(
    hub: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_weight_headers("own/tiny", COMMIT)
    assert found["model.embed_tokens.weight"].dtype == "F32"
