"""Pushing to and fetching from a Hugging Face Hub: a small one of ours on loopback."""

import base64
import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download

from pfedmoap.errors import ConfigError, RunError, StorageError
from pfedmoap.exported import folder as folders
from pfedmoap.exported import hub
from pfedmoap.exported.folder import HEAD, RECORD, TOWER
from pfedmoap.inference import PersonalizedClassifier
from tests.helpers.exported import exported

COMMIT = "0" * 39 + "1"
TOKEN = "hf_" + "s" * 34


class Hub(ThreadingHTTPServer):
    """Answers what huggingface_hub asks for to push small files and to fetch them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.private: bool | None = None
        self.tokens: set[str | None] = set()
        self.fetched: list[str] = []
        self.refuses: int | None = None


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def send(self, content: object, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        hub = self.server
        hub.tokens.add(self.headers.get("Authorization"))
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if hub.refuses is not None:
            return self.send({"error": "no"}, hub.refuses)
        if self.path == "/api/repos/create":
            made = json.loads(content)  # newer versions of the library name the visibility
            hub.private = made.get("private") is True or made.get("visibility") == "private"
            return self.send({"url": f"http://127.0.0.1:{hub.server_port}/me/model"})
        if self.path == "/api/validate-yaml":
            return self.send({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            asked = [one["path"] for one in json.loads(content)["files"]]
            modes = [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in asked]
            return self.send({"files": modes})
        assert "/commit/" in self.path, self.path
        for line in map(json.loads, content.decode().splitlines()):
            if line["key"] == "file":
                value = line["value"]
                hub.files[value["path"]] = base64.b64decode(value["content"])
        url = f"http://127.0.0.1:{hub.server_port}/me/model/commit/{COMMIT}"
        return self.send({"commitUrl": url, "commitOid": COMMIT, "success": True})

    def do_GET(self) -> None:
        hub = self.server
        hub.tokens.add(self.headers.get("Authorization"))
        if hub.refuses is not None:
            return self.send({"error": "no"}, hub.refuses)
        if "/resolve/" in self.path:
            name = self.path.rpartition("/")[2]
            if self.command == "GET":
                hub.fetched.append(name)
            digest = hashlib.sha256(hub.files[name]).hexdigest()
            return self.send(hub.files[name], ETag=f'"{digest}"', X_Repo_Commit=COMMIT)
        if "/tree/" in self.path:
            found = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in hub.files.items()
            ]
            return self.send(found)
        if not hub.files:
            return self.send({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        siblings = [{"rfilename": name, "size": len(c)} for name, c in hub.files.items()]
        return self.send({"id": "me/model", "sha": COMMIT, "siblings": siblings})

    def do_HEAD(self) -> None:
        self.do_GET()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of our own, as ``HF_ENDPOINT``, ``HF_HOME`` and ``HF_TOKEN`` would name it."""
    server = Hub()
    url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = exported(tmp_path_factory.mktemp("exported") / "model", "one prompt")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "notes.txt").write_text("of nobody's business")
    return folder


def test_what_is_pushed_is_loaded_by_its_name(place, model, caplog):
    caplog.set_level(logging.DEBUG)
    assert hub.push(model, "me/model", private=True).endswith("/me/model")
    assert place.private is True
    assert sorted(place.files) == ["README.md", HEAD, RECORD, TOWER]
    assert f"Bearer {TOKEN}" in place.tokens
    place.files["model.pt2"] = b"code"
    found = PersonalizedClassifier.load("hf-hub:me/model", device="cpu")
    assert found.class_names == PersonalizedClassifier.load(model, device="cpu").class_names
    assert sorted(set(place.fetched)) == [HEAD, RECORD, TOWER]  # no page, no code
    assert TOKEN not in caplog.text


def test_files_that_no_model_has_are_not_fetched(place, model, monkeypatch):
    place.files[RECORD] = b"{}"
    with pytest.raises(StorageError, match=r"it has no tower.safetensors, head.safetensors"):
        hub.fetch("hf-hub:me/model")
    hub.push(model, "me/model", private=True)
    monkeypatch.setattr(hub, "MOST_BYTES", {**folders.MOST_BYTES, TOWER: 10})
    with pytest.raises(StorageError, match=r"none of an exported model has over 10; nothing was"):
        hub.fetch("hf-hub:me/model")
    assert place.fetched == []


def test_what_the_hub_says_is_told_without_a_token(place, model):
    with pytest.raises(StorageError, match="no such repository, or it is closed") as told:
        hub.fetch("hf-hub:me/model")
    assert TOKEN not in str(told.value)
    place.refuses = 403
    with pytest.raises(StorageError, match=r"cannot push hf-hub:me/model: .* status 403; log in"):
        hub.push(model, "me/model", private=True)


def test_without_a_network_the_cache_or_a_clear_line(place, model, monkeypatch):
    hub.push(model, "me/model", private=True)
    hub.fetch("hf-hub:me/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert PersonalizedClassifier.load("hf-hub:me/model", device="cpu").class_names
    with pytest.raises(
        StorageError, match=r"me/other.*cannot be reached from here, and the Hub's cache"
    ):
        hub.fetch("hf-hub:me/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"from here\. The folder is whole: `pfedmoap export"):
        hub.push(model, "me/model", private=True)


@pytest.mark.parametrize("name", ["model", "a/b/c", "../x", "a/..", "a b/c", ""])
def test_a_name_that_is_no_repository(name):
    with pytest.raises(ConfigError, match="expected user/name"):
        hub.fetch(f"hf-hub:{name}")


def test_a_folder_that_is_no_model_is_not_pushed(tmp_path):
    with pytest.raises(RunError, match=r"is .* an exported model"):
        hub.push(tmp_path, "me/model", private=True)
