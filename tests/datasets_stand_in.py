"""A stand-in for the part of the Hugging Face Hub that gives out data sets: what a repository is, its files in pages,
and their bytes by range. `serve` starts one on loopback, `HF_ENDPOINT` leads the library there.

Parquet files are made as the library `datasets` makes them: pictures as `struct<bytes, path>`, labels as numbers whose
names are in the file's own notes.
"""

import io
import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 50  # files a page; the Hub has 1,000


@dataclass
class DataSet:
    """A repository: its files by path, the front matter of its card, and what the Hub made of it as Parquet."""

    files: dict[str, bytes]
    card: dict[str, Any] = field(default_factory=dict)
    converted: dict[str, bytes] = field(default_factory=dict)
    private: bool = False
    gated: bool = False


@dataclass
class StandIn:
    """What there is and what was asked; `url` is where it listens."""

    url: str = ""
    sets: dict[str, DataSet] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # path, range, authorization
    fail_with: int | None = None  # every request answers that
    silent: bool = False  # requests are taken and never answered
    break_off: int = 0  # so many downloads end after half of their bytes
    seconds_a_chunk: float = 0.0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: StandIn

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, status: int, content: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.hub.break_off and status in (200, 206) and "/resolve/" in self.path:
            self.hub.break_off -= 1
            data = data[: len(data) // 2]
            self.close_connection = True
        try:
            for at in range(0, len(data), 1 << 16):
                time.sleep(self.hub.seconds_a_chunk if "/resolve/" in self.path else 0)
                self.wfile.write(data[at : at + (1 << 16)])
        except ConnectionError:  # the other side has seen enough
            self.close_connection = True

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        path, query = unquote(address.path), parse_qs(address.query)
        token = self.headers.get("authorization", "")
        self.hub.requests.append((path, self.headers.get("range", ""), token))
        while self.hub.silent:
            time.sleep(0.1)
        if self.hub.fail_with is not None:
            return self.answer(self.hub.fail_with, b"<html>no</html>")
        found = re.fullmatch(
            r"(/api)?/datasets/([^/]+/[^/]+)(?:/(tree|resolve)/(refs/convert/parquet|[^/]+)(?:/(.*))?)?", path
        )
        data_set = self.hub.sets.get(found[2]) if found else None
        if found is None or data_set is None or (data_set.private and not token):
            return self.answer(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        files = data_set.converted if found[4] == "refs/convert/parquet" else data_set.files
        if found[3] == "tree":
            return self.tree(files, int(query.get("cursor", ["0"])[0]), path)
        if found[3] == "resolve":
            return self.file(data_set, files.get(found[5]), token)
        info = {"id": found[2], "sha": "a" * 40, "private": data_set.private, "gated": data_set.gated and "auto"}
        return self.answer(200, info | {"cardData": data_set.card, "tags": [], "siblings": []})

    def tree(self, files: Mapping[str, bytes], start: int, path: str) -> None:
        if not files:
            return self.answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        page = list(files.items())[start : start + PAGE]
        more = {"Link": f'<{self.hub.url}{path}?recursive=true&cursor={start + PAGE}>; rel="next"'}
        listed = [{"type": "file", "path": name, "oid": "0" * 40, "size": len(data)} for name, data in page]
        self.answer(200, listed, more if start + PAGE < len(files) else {})

    def file(self, data_set: DataSet, data: bytes | None, token: str) -> None:
        if data_set.gated and not token:
            return self.answer(401, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
        if data is None:
            return self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if wanted is None:
            return self.answer(200, data)
        part = data[int(wanted[1]) : int(wanted[2]) + 1 if wanted[2] else None]
        self.answer(206, part, {"Content-Range": f"bytes {wanted[1]}-{int(wanted[1]) + len(part) - 1}/{len(data)}"})


def serve() -> tuple[StandIn, ThreadingHTTPServer]:
    """Start one on a free port; call `shutdown` on the server when done."""
    hub = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return hub, server


def shard(
    pictures: Sequence[bytes | None],
    labels: Sequence[int | None],
    names: Sequence[str] = ("cat", "dog"),
    *,
    group: int = 10,
    noted: bool = True,
    written: Mapping[str, Any] | None = None,
    **more: Any,
) -> bytes:
    """A Parquet file with `image`, `label` and `more` columns, `group` rows a row group; without `noted`, no notes.
    `written` are options of the writer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [{"bytes": data, "path": f"../../{i}.jpg"} for i, data in enumerate(pictures)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, kind), "label": pa.array(labels, pa.int64()), **more})
    if noted:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(names)}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=group, **(written or {}))
    return out.getvalue()
