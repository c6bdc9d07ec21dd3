"""The running app as strangers meet it: what is open, what a request may weigh, what is said and written down."""

import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.browser import App
from tests.test_guard import app as echo
from tests.test_guard import ask
from tl_ui import guard
from tl_ui.operator import Counters, Operator
from tl_ui.request_log import RequestLog, route_of


@pytest.fixture
def client(app: App) -> Any:
    with httpx.Client(base_url=app.url, trust_env=False, timeout=30) as made:
        yield made


def resident(pid: int) -> int:
    """Bytes that a process has in memory."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../app.py",
        "%2e%2e/%2e%2e/app.py",
        "..%2fapp.py",
        "//etc/passwd",
        "..\\app.py",
        "file:///etc/passwd",
        "DATA/jobs.sqlite",
        "DATA/web/../jobs.sqlite",
        "DATA/WEB/../jobs.sqlite",
        "DATA/web/%2e%2e/jobs.sqlite",
        "DATA/web/link/jobs.sqlite",
        "DATA/sets/",
        "DATA/runs/x/request.json",
        "/proc/self/environ",
        "/work/main/app.py",
    ],
)
def test_case_96_no_path_leads_out_of_what_was_handed_out(app: App, client: httpx.Client, path: str) -> None:
    link = app.data / "web" / "link"
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(app.data)
    assert (app.data / "jobs.sqlite").exists()
    answer = client.get("/gradio_api/file=" + path.replace("DATA", str(app.data)))
    assert answer.status_code in (403, 404), answer.text[:200]
    assert b"SQLite" not in answer.content and b"root:" not in answer.content


def test_case_97_and_100_the_running_app_knows_its_names(client: httpx.Client) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    answer = client.get("/config", headers={"x-forwarded-host": "evil.example"})
    assert answer.status_code == 200 and "evil.example" not in answer.text


def test_case_101_and_102_headers_are_on_every_answer(client: httpx.Client) -> None:
    for path in ("/", "/config", "/gradio_api/info", "/theme.css", "/nothing", "/gradio_api/file=/etc/passwd"):
        headers = client.get(path).headers
        assert (
            headers["x-content-type-options"] == "nosniff" and "frame-ancestors" in headers["content-security-policy"]
        )
        assert "access-control-allow-origin" not in headers and re.fullmatch(r"[0-9a-f]{8}", headers["x-request-id"])
    assert client.get("/").headers["cache-control"] == "private, no-store"


def test_case_103_large_bodies_end_before_they_are_in_memory(app: App, client: httpx.Client) -> None:
    before = resident(app.pid)

    def endless(megabytes: int) -> Any:
        for _ in range(megabytes):
            yield b"x" * 1_000_000

    peak = [before]
    watching = threading.Event()

    def watch() -> None:
        while not watching.wait(0.05):
            peak.append(resident(app.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        statuses = []
        for path, body in (("/gradio_api/queue/join", endless(300)), ("/gradio_api/call/predict", endless(200))):
            try:
                headers = {"content-type": "application/json"}
                statuses.append(client.post(path, content=body, headers=headers).status_code)
            except httpx.HTTPError:  # the server hung up while we were still sending
                statuses.append(413)
        many = [("files", (f"{n}.txt", b"x")) for n in range(1_100)]
        statuses.append(client.post("/gradio_api/upload", files=many).status_code)
        parts = {f"field{n}": "x" for n in range(10_000)}
        statuses.append(client.post("/gradio_api/upload", data=parts, files={"files": ("a", b"x")}).status_code)
    finally:
        watching.set()
        thread.join()
    assert statuses[:2] == [413, 413] and all(status in (400, 413) for status in statuses[2:]), statuses
    assert max(peak) - before < 100_000_000
    assert client.get("/healthz").text == "ok\n"


def test_case_104_who_sends_nothing_does_not_hold_on_for_ever(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_GRACE_SECONDS", 0.0)
    monkeypatch.setattr(guard, "_LEAST_RATE", 10**12)
    assert ask("/gradio_api/upload", "POST", b"x" * 5_000)[0] == 408
    assert ask("/gradio_api/upload", "POST", b"x" * 900)[0] == 200, "what is whole is not late"


def test_case_104_uploads_that_break_off_do_no_harm(app: App, client: httpx.Client) -> None:
    where = urlsplit(app.url)
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nhost: {where.netloc}\r\ncontent-length: 1000000\r\n"
        "content-type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\ncontent-disposition: form-data; name="files"; filename="a.zip"\r\n\r\n'
    ).encode()
    for _ in range(30):
        with socket.create_connection((str(where.hostname), int(where.port or 0))) as line:
            line.sendall(head + b"x" * 5_000)
    until(lambda: client.get("/healthz").status_code == 200)
    answer = client.post("/gradio_api/upload", files={"files": ("ok.txt", b"fine")})
    assert answer.status_code == 200 and Path(answer.json()[0]).read_bytes() == b"fine"


def test_case_38_an_upload_that_the_disk_has_no_room_for_is_refused_before_it_is_taken() -> None:
    full = guard.GuardSettings(guard.LOOPBACK, max_upload=10**9, room=lambda: 1_000)
    status, _, text = ask("/gradio_api/upload", "POST", b"x" * 1_001, settings=full)
    assert status == 507 and b"disk of this machine is full" in text
    assert ask("/gradio_api/upload", "POST", b"x" * 1_000, settings=full)[0] == 200


def test_health_is_told_under_any_name_and_numbers_only_here(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"host": "10.0.0.7"}).text == "ok\n"
    text = client.get("/metrics").text
    assert re.search(r"tl_runs_waiting \d", text) and re.search(
        r'tl_requests_total\{route="page",status="2xx"\} \d', text
    )
    assert client.get("/metrics", headers={"x-forwarded-for": "1.2.3.4"}).status_code in (404, 421)
    assert client.post("/healthz").status_code in (404, 405)


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [
        ("secret", [(b"authorization", b"Bearer secret")], 200),
        ("secret", [(b"authorization", b"Bearer secre")], 421),
        ("secret", [], 421),
        ("", [], 421),
    ],
)
def test_numbers_from_elsewhere_need_the_token(token: str, headers: list[tuple[bytes, bytes]], status: int) -> None:
    import asyncio

    inner = guard.Guard(echo, guard.GuardSettings(guard.LOOPBACK, 1))
    served = Operator(inner, counters=Counters(lambda: {"x": 1.0}), healthy=lambda: False, token=token)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    for path, wanted in (("/metrics", status), ("/healthz", 503)):
        sent.clear()
        scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "client": ("10.0.0.9", 1)}
        asyncio.run(served(scope, send, send))  # type: ignore[arg-type]
        assert sent[0]["status"] == wanted


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "page"),
        ("/gradio_api/file=/data/web/x/my cat.jpg", "file"),
        ("/gradio_api/heartbeat/abc", "heartbeat"),
        ("/gradio_api/queue/data", "data"),
        ("/gradio_api/call/predict/123", "call"),
        ("/assets/index.js", None),
        ("/a\nFAKE LINE\x1b[31m", "other"),
    ],
)
def test_case_134_of_an_address_only_its_kind_is_written_down(
    path: str, route: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    import asyncio

    assert route_of(path) == route
    served, sent = RequestLog(echo, counters=Counters(dict)), list[Any]()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"abc"}

    async def send(message: Any) -> None:
        sent.append(message)

    with caplog.at_level(logging.INFO, "transfer_lab.requests"):
        asyncio.run(served({"type": "http", "method": "GE\nT", "path": path, "headers": []}, receive, send))
    assert len(caplog.messages) == (route is not None)
    for line in caplog.messages:
        assert re.fullmatch(rf"[0-9a-f]{{8}} other {route} 200 \d+ ms in 3 out \d+", line)


def test_case_133_a_mistake_of_ours_is_short_and_has_the_logs_code(app: App, client: httpx.Client) -> None:
    """An endpoint given a key that is no text at all: refused in a sentence, without a path or a traceback."""
    joined = client.post("/gradio_api/call/status", json={"data": [{"a": 1}, 0]})
    text = client.get(f"/gradio_api/call/status/{joined.json()['event_id']}").text
    assert "event: error" in text
    told = json.loads(text.partition("data: ")[2].strip().splitlines()[0])
    assert len(json.dumps(told, ensure_ascii=False)) < 400
    assert "Traceback" not in text and "/work" not in text and str(app.data) not in text
