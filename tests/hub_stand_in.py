"""A stand-in for the Hugging Face Hub on loopback: enough of its HTTP for the real client to push and pull a model
or a dataset, whose name here begins with "datasets/".

Tokens: GOOD may write as alice, READ may only read as bob, FINE may write alice/allowed only, SIGNED_IN is alice's by
OAuth; any other is unknown. `fail_with` makes every write answer that status, as an overloaded Hub would, `failures`
only the next so many; `refuse` maps parts of paths to the status they get, with `refusal` as what is said. Paths with
a part that is in `silent` get no answer while it is there. `instead` is a page that answers whatever is asked.
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD, READ, FINE = "hf_" + "goodgoodgood", "hf_" + "readreadread", "hf_" + "finefinefine"
SIGNED_IN = "hf_oauth_" + "eyJhbGciOi.eyJzdWIi.c2ln-_nature"
USERS = {GOOD: "alice", READ: "bob", FINE: "alice", SIGNED_IN: "alice"}
_SCOPED = {"entity": {"type": "model", "name": "alice/allowed"}, "permissions": ["repo.content.read", "repo.write"]}
ROLES: dict[str, dict[str, Any]] = {
    GOOD: {"role": "write"},
    READ: {"role": "read"},
    FINE: {"role": "fineGrained", "fineGrained": {"global": [], "scoped": [_SCOPED]}},
    SIGNED_IN: {"role": "write"},
}


@dataclass
class Repo:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0
    made: dict[str, Any] = field(default_factory=dict)  # what it was created with

    @property
    def sha(self) -> str:
        return f"{self.commits:040x}"


@dataclass
class StandIn:
    """What the Hub holds and was asked; `url` is where it listens."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, token
    fail_with: int | None = None
    failures: int | None = None
    refuse: dict[str, int] = field(default_factory=dict)
    refusal: bytes = b"<html>overloaded</html>"
    silent: set[str] = field(default_factory=set)
    instead: bytes = b""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer's body waits until its head was acknowledged
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
        self.stay_silent(path)
        if self.hub.instead:
            return self.answer(200, self.hub.instead, {"content-type": "text/html"})
        if path == "/api/whoami-v2" and path not in self.hub.refuse:
            return self.whoami(token)
        if (status := self.trouble(path)) is not None:
            return self.answer(status, self.hub.refusal)
        if path == "/api/repos/create":
            return self.create(json.loads(body), token, USERS.get(token))
        if path in ("/api/validate-yaml", "/verify") or path.startswith("/api/buckets/"):
            return self.answer(200, {"errors": [], "warnings": [], "url": self.hub.url + path.removeprefix("/api")})
        if path.startswith("/lfs/"):
            assert hashlib.sha256(body).hexdigest() == path[5:]
            self.hub.blobs[path[5:]] = body
            return self.answer(200)
        if re.fullmatch(r"/(datasets/|spaces/)?[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            return self.batch(json.loads(body)["objects"])
        if found := re.fullmatch(r"/api/(?:models/|((?:datasets|spaces)/))([^/]+/[^/]+)(/.*)?", path):
            return self.repo((found[1] or "") + found[2], found[3] or "", body, token)
        if found := re.fullmatch(r"/((?:datasets/|spaces/)?[^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self.file(found[1], found[2])
        return self.answer(404, {"error": f"the stand-in does not know {path}"})

    do_GET = do_POST = do_PUT = do_HEAD = respond

    def stay_silent(self, path: str) -> None:
        while any(part in path for part in self.hub.silent):
            time.sleep(0.05)

    def trouble(self, path: str) -> int | None:
        """The status that this request is to fail with, if any."""
        for part, status in self.hub.refuse.items():
            if part in path:
                return status
        if self.hub.fail_with is None or self.command in ("GET", "HEAD") or self.hub.failures == 0:
            return None
        self.hub.failures = None if self.hub.failures is None else self.hub.failures - 1
        return self.hub.fail_with

    def whoami(self, token: str) -> None:
        user = USERS.get(token)
        if user is None:
            return self.answer(401, {"error": "Invalid user token."})
        auth = {"type": "access_token", "accessToken": {"displayName": "t", **ROLES[token]}}
        return self.answer(200, {"type": "user", "name": user, "orgs": [{"name": "school"}], "auth": auth})

    def create(self, wish: dict[str, Any], token: str, user: str | None) -> None:
        repo_id = f"{wish.get('organization') or user}/{wish['name']}"
        if token not in (GOOD, FINE, SIGNED_IN) or not repo_id.startswith(("alice/", "school/")):
            return self.answer(403, {"error": "You don't have the rights to create a model here"})
        if wish.get("type") == "space" and (wish.get("hardware") or "cpu-basic") != "zero-a10g":
            return self.answer(402, {"error": "Subscribe to PRO to create Gradio Spaces on this hardware"})
        repo_id = f"{wish['type'] + 's/' if wish.get('type') in ('dataset', 'space') else ''}{repo_id}"
        url = f"{self.hub.url}/{repo_id}"
        if repo_id in self.hub.repos:
            return self.answer(409, {"error": "You already created this model repo", "url": url})
        private = wish.get("private") is True or wish.get("visibility") == "private"
        self.hub.repos[repo_id] = Repo(private, made=wish)
        return self.answer(200, {"url": url, "name": repo_id, "id": "x"})

    def batch(self, objects: list[dict[str, Any]]) -> None:
        actions = [
            {"oid": o["oid"], "size": o["size"]}
            if o["oid"] in self.hub.blobs  # sent before: nothing to do
            else {
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
                    "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".zip", ".onnx")) else "regular",
                    "shouldIgnore": False,
                    **({"oid": _oid(file["path"], repo.files[file["path"]])} if file["path"] in repo.files else {}),
                }
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        if rest in ("/volumes", "/variables", "/hardware", "/secrets"):
            kept = "hardware_asked" if rest == "/hardware" else rest[1:]  # it may be created with some
            repo.made.setdefault(kept, []).append(json.loads(body))
            about = {"stage": "BUILDING", "hardware": {"current": None, "requested": None}}
            return self.answer(200, {} if rest == "/variables" else about)
        if rest.startswith("/auth-check"):
            return self.answer(200 if token in (GOOD, FINE, SIGNED_IN) else 403, {})
        if rest.startswith("/commit/"):
            return self.commit(repo_id, repo, [json.loads(line) for line in body.splitlines()])
        if rest.startswith("/tree/"):
            oids = {name: hashlib.sha256(data).hexdigest() for name, data in repo.files.items()}
            files = [{"type": "file", "path": n, "oid": oids[n], "size": len(repo.files[n])} for n in oids]
            return self.answer(200, files)
        if repo.private and USERS.get(token) != "alice":
            return self.answer(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        siblings = [{"rfilename": name, "size": len(data)} for name, data in repo.files.items()]
        about = {"id": repo_id, "sha": repo.sha, "private": repo.private, "siblings": siblings, "tags": []}
        return self.answer(200, about)

    def commit(self, repo_id: str, repo: Repo, steps: list[dict[str, Any]]) -> None:
        if (parent := steps[0]["value"].get("parentCommit")) and parent != repo.sha:
            return self.answer(412, {"error": "A commit has happened since"})
        repo.commits += 1
        for step in steps:
            if step["key"] == "file":
                repo.files[step["value"]["path"]] = base64.b64decode(step["value"]["content"])
            elif step["key"] == "lfsFile":
                repo.files[step["value"]["path"]] = self.hub.blobs[step["value"]["oid"]]
            elif step["key"] == "deletedFile":
                repo.files.pop(step["value"]["path"], None)
            elif step["key"] == "deletedFolder":
                below = step["value"]["path"].rstrip("/") + "/"
                repo.files = {name: data for name, data in repo.files.items() if not name.startswith(below)}
        url = f"{self.hub.url}/{repo_id}/commit/{repo.sha}"
        return self.answer(200, {"success": True, "commitOid": repo.sha, "commitUrl": url})

    def file(self, repo_id: str, name: str) -> None:
        repo = self.hub.repos.get(repo_id)
        if repo is None or name not in repo.files:
            return self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        data = repo.files[name]
        etag = hashlib.sha256(data).hexdigest()
        return self.answer(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": repo.sha})


def _oid(name: str, data: bytes) -> str:
    """How the Hub knows a file's content: as LFS does, or as git does."""
    if name.endswith((".safetensors", ".zip", ".onnx")):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()


class _Server(ThreadingHTTPServer):
    """Hangs up when it is shut down: else its connections would live on in the client, and answer for the next
    stand-in that gets the same port."""

    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def shutdown(self) -> None:
        super().shutdown()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


def serve(
    hub: StandIn | None = None, handler: type[BaseHTTPRequestHandler] = Handler
) -> tuple[StandIn, ThreadingHTTPServer]:
    """Start one on a free port; call `shutdown` on the server when done."""
    hub = hub or StandIn()
    server = _Server(("127.0.0.1", 0), type("Bound", (handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()  # seconds that a shutdown waits
    return hub, server


@contextmanager
def standing_in(handler: type[Handler] = Handler) -> Iterator[StandIn]:
    """One for as long as it is needed."""
    stand_in, server = serve(handler=handler)
    yield stand_in
    stand_in.silent.clear()
    server.shutdown()
    server.server_close()
