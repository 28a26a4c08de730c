"""A stand-in for the Hugging Face hub: as much of its interface as sharing models needs, over HTTP on this machine."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "a-token-of-the-stand-in"  # who writes, or reads what is private, must show it


@dataclass
class Repository:
    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)  # to commits
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # to files

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        number = hashlib.sha1(json.dumps([branch, len(self.commits)]).encode()).hexdigest()
        self.commits[number] = files
        self.branches[branch] = number
        return number


@dataclass
class Hub:
    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)  # large files on their way, by digest
    requests: list[str] = field(default_factory=list)

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        repository = self.repositories[name]
        return repository.commits[repository.branches[branch]]

    def publish(self, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        return self.repositories.setdefault(name, Repository()).commit(branch, files)


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class RefusalError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", **body: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.body = status, code, message, {"error": message, **body}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(self._get)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def _answer(self, answer: Any) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        try:
            content, headers = answer(path, body)
            self._send(200, content, headers)
        except RefusalError as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            self._send(refused.status, refused.body, headers)

    def _send(self, status: int, content: Any, headers: dict[str, str]) -> None:
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _get(self, path: str, body: bytes) -> tuple[Any, dict[str, str]]:
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            _, files = self._files(found[1], found[2])
            return [_entry(name, content) for name, content in files.items()], {}
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            commit, files = self._files(found[1], found[2] or "main")
            return {"id": found[1], "sha": commit, "siblings": [{"rfilename": name} for name in files]}, {}
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            commit, files = self._files(found[1], found[2])
            if found[3] not in files:
                raise RefusalError(404, "EntryNotFound", "no such file")
            content = files[found[3]]
            return content, {"X-Repo-Commit": commit, "ETag": f'"{_entry(found[3], content)["oid"]}"'}
        raise RefusalError(404, "", f"no such page: {path}")

    def _files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._authorised()):
            raise RefusalError(401, "RepoNotFound", "Repository not found")
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            if revision == "main":
                return "0" * 40, {}
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, repository.commits[commit]

    def _authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _post(self, path: str, body: bytes) -> tuple[Any, dict[str, str]]:
        if path == "/api/validate-yaml":
            metadata = json.loads(body)["content"].split("---")[1]
            missing = "license" not in metadata
            return {"errors": [{"message": "no license"}] if missing else [], "warnings": []}, {}
        if not self._authorised():
            raise RefusalError(401, "", "Invalid username or password.")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.hub.repositories:
                raise RefusalError(409, "", "You already created this model repo", url=f"{self.hub.url}/{name}")
            private = asked.get("private") is True or asked.get("visibility") == "private"
            self.hub.repositories[name] = Repository(private)
            return {"url": f"{self.hub.url}/{name}"}, {}
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/([^/]+)", path):
            repository = self.hub.repositories[found[1]]
            if found[2] in repository.branches:
                raise RefusalError(409, "", "Reference already exists")
            repository.commit(found[2], dict(repository.commits.get(repository.branches.get("main", ""), {})))
            return {}, {}
        if re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/[^/]+", path):
            asked = json.loads(body)["files"]
            modes = [
                (each["path"], "lfs" if each["path"].endswith((".safetensors", ".onnx")) else "regular")
                for each in asked
            ]
            return {"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes]}, {}
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            return {"transfer": "basic", "objects": objects}, {"Content-Type": "application/vnd.git-lfs+json"}
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", path):
            number = self._commit(self.hub.repositories[found[1]], found[2], body)
            return {"commitUrl": f"{self.hub.url}/{found[1]}/commit/{number}", "commitOid": number}, {}
        raise RefusalError(404, "", f"no such page: {path}")

    def _commit(self, repository: Repository, branch: str, body: bytes) -> str:
        files = dict(repository.commits.get(repository.branches.get(branch, ""), {}))
        for line in body.splitlines():
            operation, value = json.loads(line)["key"], json.loads(line)["value"]
            if operation == "deletedFile":
                del files[value["path"]]
            elif operation == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        return repository.commit(branch, files)

    def _put(self, path: str, body: bytes) -> tuple[Any, dict[str, str]]:
        digest = hashlib.sha256(body).hexdigest()
        if path != f"/lfs/{digest}":
            raise RefusalError(400, "", "is not what was announced")
        self.hub.blobs[digest] = body
        return b"", {}


def _entry(name: str, content: bytes) -> dict[str, Any]:
    """A file in a listing, as git names its content."""
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"type": "file", "path": name, "size": len(content), "oid": oid}
