"""A stand-in for the Hugging Face Hub on loopback: enough of its HTTP for the real client to push and pull a model
or a dataset, whose name here begins with "datasets/".

Tokens: GOOD may write as alice, READ may only read as bob, any other is unknown. `fail_with` makes every write answer
that status, as an overloaded Hub would.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD, READ = "hf_" + "goodgoodgood", "hf_" + "readreadread"
USERS = {GOOD: "alice", READ: "bob"}


@dataclass
class Repo:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class StandIn:
    """What the Hub holds and was asked; `url` is where it listens."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, token
    fail_with: int | None = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: StandIn

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, status: int, content: Any = b"", headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def respond(self) -> None:
        path, body = self.path.split("?")[0], self.body()
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
        self.hub.requests.append((self.command, path, token))
        user = USERS.get(token)
        if path == "/api/whoami-v2":
            if user is None:
                return self.answer(401, {"error": "Invalid user token."})
            return self.answer(200, {"type": "user", "name": user, "orgs": [], "auth": {"type": "access_token"}})
        if self.hub.fail_with is not None and self.command != "GET":
            return self.answer(self.hub.fail_with, b"<html>overloaded</html>")
        if path == "/api/repos/create":
            return self.create(json.loads(body), token, user)
        if path in ("/api/validate-yaml", "/verify"):
            return self.answer(200, {"errors": [], "warnings": []})
        if path.startswith("/lfs/"):
            assert hashlib.sha256(body).hexdigest() == path[5:]
            self.hub.blobs[path[5:]] = body
            return self.answer(200)
        if re.fullmatch(r"/(datasets/)?[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            return self.batch(json.loads(body)["objects"])
        if found := re.fullmatch(r"/api/(?:models/|(datasets/))([^/]+/[^/]+)(/.*)?", path):
            return self.repo((found[1] or "") + found[2], found[3] or "", body, token)
        if found := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self.file(found[1], found[2])
        return self.answer(404, {"error": f"the stand-in does not know {path}"})

    do_GET = do_POST = do_PUT = do_HEAD = respond

    def create(self, wish: dict[str, Any], token: str, user: str | None) -> None:
        repo_id = f"{wish.get('organization') or user}/{wish['name']}"
        if token != GOOD or not repo_id.startswith(f"{user}/"):
            return self.answer(403, {"error": "You don't have the rights to create a model here"})
        repo_id = f"{'datasets/' if wish.get('type') == 'dataset' else ''}{repo_id}"
        url = f"{self.hub.url}/{repo_id}"
        if repo_id in self.hub.repos:
            return self.answer(409, {"error": "You already created this model repo", "url": url})
        self.hub.repos[repo_id] = Repo(private=wish.get("private") is True or wish.get("visibility") == "private")
        return self.answer(200, {"url": url, "name": repo_id, "id": "x"})

    def batch(self, objects: list[dict[str, Any]]) -> None:
        actions = [
            {
                "oid": o["oid"],
                "size": o["size"],
                "actions": {
                    "upload": {"href": f"{self.hub.url}/lfs/{o['oid']}"},
                    "verify": {"href": f"{self.hub.url}/verify"},
                },
            }
            for o in objects
        ]
        self.answer(200, {"transfer": "basic", "objects": actions}, {"content-type": "application/vnd.git-lfs+json"})

    def repo(self, repo_id: str, rest: str, body: bytes, token: str) -> None:
        repo = self.hub.repos.get(repo_id)
        if repo is None:
            return self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if rest.startswith("/preupload/"):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".zip")) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        if rest.startswith("/commit/"):
            for line in body.splitlines():
                step = json.loads(line)
                if step["key"] == "file":
                    repo.files[step["value"]["path"]] = base64.b64decode(step["value"]["content"])
                elif step["key"] == "lfsFile":
                    repo.files[step["value"]["path"]] = self.hub.blobs[step["value"]["oid"]]
                elif step["key"] == "deletedFolder":
                    below = step["value"]["path"].rstrip("/") + "/"
                    repo.files = {name: data for name, data in repo.files.items() if not name.startswith(below)}
            answer = {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.hub.url}/{repo_id}/commit/0"}
            return self.answer(200, answer)
        if rest.startswith("/tree/"):
            oids = {name: hashlib.sha256(data).hexdigest() for name, data in repo.files.items()}
            files = [{"type": "file", "path": n, "oid": oids[n], "size": len(repo.files[n])} for n in oids]
            return self.answer(200, files)
        return self.answer(200, {"id": repo_id, "sha": "0" * 40, "private": repo.private, "siblings": [], "tags": []})

    def file(self, repo_id: str, name: str) -> None:
        repo = self.hub.repos.get(repo_id)
        if repo is None or name not in repo.files:
            return self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        data = repo.files[name]
        etag = hashlib.sha256(data).hexdigest()
        return self.answer(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": "0" * 40})


def serve(
    hub: StandIn | None = None, handler: type[BaseHTTPRequestHandler] = Handler
) -> tuple[StandIn, ThreadingHTTPServer]:
    """Start one on a free port; call `shutdown` on the server when done."""
    hub = hub or StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return hub, server
