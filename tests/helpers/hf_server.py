"""A small Hugging Face Hub on 127.0.0.1 for the real client: repositories, commits, LFS, downloads.

It keeps repositories in memory and does what the hub does, as far as publishing and downloading
need it: one git-like history a repository, files addressed by commit, weights in LFS behind a
redirect to another host, and refusals with the hub's status codes and headers.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub.constants
import pytest
import yaml

WRITER, READER = "hf_writer", "hf_reader"
"""Access tokens: of the owner of everything, and of somebody who may only read public things."""

LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0", "other", "unknown")


@dataclass
class Repo:
    """Commits, oldest first, each a mapping from path to (content, whether in LFS)."""

    private: bool = False
    commits: list[tuple[str, dict[str, tuple[bytes, bool]]]] = field(default_factory=list)

    def commit(self, changes: dict[str, tuple[bytes, bool]]) -> str:
        files = {**(self.commits[-1][1] if self.commits else {}), **changes}
        state = repr((len(self.commits), sorted(files.items())))
        self.commits.append((hashlib.sha1(state.encode()).hexdigest(), files))
        return self.commits[-1][0]

    def find(self, revision: str) -> tuple[str, dict[str, tuple[bytes, bool]]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


class _Refusal(Exception):  # noqa: N818
    def __init__(self, status: int, message: str, code: str = ""):
        super().__init__(message)
        self.status, self.code = status, code


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.full = False  # no more files fit into LFS
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.storage_url = f"http://localhost:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.serve()

    do_GET = do_HEAD = do_PUT = do_POST  # noqa: N815 - http.server's names

    def log_message(self, *args):
        pass

    def serve(self):
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {url.path}")
        method = "GET" if self.command == "HEAD" else self.command
        try:
            for pattern, handler in _ROUTES:
                match = re.fullmatch(pattern, f"{method} {unquote(url.path)}")
                if match:
                    return handler(self, *match.groups())
            raise _Refusal(404, "Not Found")
        except _Refusal as refusal:
            headers = {"X-Error-Message": str(refusal)}
            headers |= {"X-Error-Code": refusal.code} if refusal.code else {}
            self.answer({"error": str(refusal)}, refusal.status, headers)

    def answer(self, content, status=200, headers=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def check_writer(self) -> None:
        if self.token not in (WRITER, READER):
            raise _Refusal(401, "Invalid username or password.")
        if self.token == READER:
            raise _Refusal(403, "You don't have the rights to create a model under this namespace")

    def repo(self, name: str) -> Repo:
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and self.token != WRITER):
            # Who may not see a repository is not told whether there is one.
            raise _Refusal(404 if self.token else 401, "Repository not found", "RepoNotFound")
        return repo

    def create(self):
        self.check_writer()
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.server.repos:
            message = "You already created this model repo"
            return self.answer({"error": message, "url": f"{self.server.url}/{name}"}, 409)
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        repo = self.server.repos[name] = Repo(private)
        repo.commit({".gitattributes": (b"*.safetensors filter=lfs\n", False)})
        return self.answer({"url": f"{self.server.url}/{name}"})

    def validate_yaml(self):
        block = re.match(r"---\n(.*?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        data = yaml.safe_load(block[1]) if block else None
        errors = [] if isinstance(data, dict) else ["no metadata"]
        if not errors and data.get("license") not in LICENCES:
            errors.append(f'"license" must be one of {LICENCES}')
        found = [{"message": error} for error in errors]
        self.answer({"errors": found, "warnings": []}, 400 if errors else 200)

    def preupload(self, name, revision):
        self.check_writer()
        _, files = self.repo(name).find(revision)
        answers = []
        for asked in json.loads(self.body)["files"]:
            lfs = asked["path"].endswith(".safetensors")
            old = _oid(*files[asked["path"]]) if asked["path"] in files else None
            mode = "lfs" if lfs else "regular"
            answers.append(
                {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": old}
            )
        self.answer({"files": answers})

    def batch(self, name):
        self.check_writer()
        self.repo(name)
        objects = []
        for asked in json.loads(self.body)["objects"]:
            href = f"{self.server.url}/lfs/{asked['oid']}"
            there = asked["oid"] in self.server.lfs
            objects.append(asked if there else {**asked, "actions": {"upload": {"href": href}}})
        self.answer({"transfer": "basic", "objects": objects})

    def store(self, oid):
        if self.server.full:
            raise _Refusal(507, "Insufficient Storage")
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Refusal(400, "the content does not have that SHA-256")
        self.server.lfs[oid] = self.body
        self.answer(b"")

    def commit(self, name, revision):
        self.check_writer()
        repo = self.repo(name)
        changes = {}
        for line in self.body.splitlines():
            key, value = (item := json.loads(line))["key"], item["value"]
            if key == "file":
                changes[value["path"]] = (base64.b64decode(value["content"]), False)
            elif key == "lfsFile":
                if value["oid"] not in self.server.lfs:
                    raise _Refusal(400, f"LFS object {value['oid']} was not uploaded")
                changes[value["path"]] = (self.server.lfs[value["oid"]], True)
        oid = repo.commit(changes)
        url = f"{self.server.url}/{name}/commit/{oid}"
        self.answer({"success": True, "commitOid": oid, "commitUrl": url})

    def info(self, name, revision="main"):
        found = self.repo(name).find(revision)
        if found is None:
            raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        commit, files = found
        siblings = [{"rfilename": path} for path in sorted(files)]
        if self.query.get("blobs"):
            siblings = [_described(path, *files[path]) for path in sorted(files)]
        private = self.server.repos[name].private
        about = {"id": name, "modelId": name, "sha": commit, "private": private}
        self.answer({**about, "siblings": siblings})

    def resolve(self, name, revision, path):
        found = self.repo(name).find(revision)
        if found is None:
            raise _Refusal(404, "Invalid rev id", "RevisionNotFound")
        commit, files = found
        if path not in files:
            raise _Refusal(404, "Entry not found", "EntryNotFound")
        content, lfs = files[path]
        etag = f'"{_oid(content, lfs)}"'
        if not lfs:
            return self.answer(content, headers={"ETag": etag, "X-Repo-Commit": commit})
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": etag,
            "X-Linked-Size": str(len(content)),
            "Location": f"{self.server.storage_url}/storage/{_oid(content, lfs)}",
        }
        return self.answer(b"Found", 302, headers)

    def storage(self, oid):
        if self.headers.get("Authorization"):
            raise _Refusal(400, "a signed URL takes no token: it would leak to another host")
        content, etag = self.server.lfs[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked:
            return self.answer(content, headers=etag)
        start = int(asked[1])
        covered = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return self.answer(content[start:], 206, etag | covered)


def _oid(content: bytes, lfs: bool) -> str:
    if lfs:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _described(path: str, content: bytes, lfs: bool) -> dict:
    about = {"rfilename": path, "size": len(content), "blobId": _oid(content, False)}
    if lfs:
        sha256 = _oid(content, True)
        about["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
    return about


_REPO = "([^/]+/[^/]+)"
_ROUTES = (
    ("POST /api/repos/create", _Handler.create),
    ("POST /api/validate-yaml", _Handler.validate_yaml),
    (f"POST /api/models/{_REPO}/preupload/([^/]+)", _Handler.preupload),
    (f"POST /{_REPO}\\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT /lfs/([0-9a-f]{64})", _Handler.store),
    (f"POST /api/models/{_REPO}/commit/([^/]+)", _Handler.commit),
    (f"GET /api/models/{_REPO}", _Handler.info),
    (f"GET /api/models/{_REPO}/revision/([^/]+)", _Handler.info),
    (f"GET /{_REPO}/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("GET /storage/([0-9a-f]{64})", _Handler.storage),
)


@contextlib.contextmanager
def hf_server(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[HubServer]:
    """Serve until the block is left, as the hub of this process, with an empty cache.

    `requests` holds "METHOD path" of every request.
    """
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    # The client reads its variables at import. Xet is a service of its own, which is not here.
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    monkeypatch.setenv("MDAN_ZOO_CACHE", str(cache))
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
