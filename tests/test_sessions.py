"""Sessions belong to visitors: whoever only knows a session's number reads, cancels and joins nothing."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.browser import NEEDS_BROWSER, App, opened
from tl_ui.session_lock import COOKIE, SessionLock


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body it was given."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def ask(
    lock: SessionLock, path: str, query: str = "", method: str = "GET", body: bytes = b"", cookie: str = ""
) -> tuple[int, bytes, str]:
    """Status, body, and the cookie that came along."""
    sent: list[Any] = []
    pieces = [body[at : at + 10] for at in range(0, len(body), 10)] or [b""]

    async def receive() -> Any:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"cookie", f"theme=dark; {COOKIE}={cookie}; x=1".encode())] if cookie else []
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
    asyncio.run(lock(scope, receive, send))
    welcome = dict(sent[0]["headers"]).get(b"set-cookie", b"").decode()
    return sent[0]["status"], sent[1]["body"], welcome


def visitor(lock: SessionLock) -> str:
    """A new visitor's cookie."""
    return ask(lock, "/")[2].split(";")[0].partition("=")[2]


WAYS = [
    ("/gradio_api/queue/data", "session_hash={}", "GET", ""),
    ("/gradio_api/heartbeat/{}", "", "GET", ""),
    ("/gradio_api/stream/{}/1/2/playlist.m3u8", "", "GET", ""),
    ("/gradio_api/queue/join", "", "POST", '{{"fn_index": 3, "session_hash": "{}"}}'),
    ("/gradio_api/cancel", "", "POST", '{{"session_hash": "{}", "event_id": "x"}}'),
    ("/gradio_api/call/predict", "", "POST", '{{"data": [], "session_hash": "{}"}}'),
    ("/gradio_api/queue/data", "session_hash=zzz&session_hash={}", "GET", ""),
]


@pytest.mark.parametrize(("path", "query", "method", "body"), WAYS)
def test_case_91_a_session_is_the_visitors_who_had_it_first(path: str, query: str, method: str, body: str) -> None:
    lock = SessionLock(echo, secure=False)
    alice, bob = visitor(lock), visitor(lock)
    assert len(alice) == 22 and alice != bob
    given = (path.format("a1"), query.format("a1"), method, body.format("a1").encode())
    for _ in range(2):
        assert ask(lock, *given, cookie=alice)[:2] == (200, given[3]), "her own, and the body arrives whole"
    assert ask(lock, *given, cookie=bob)[0] == 403
    assert ask(lock, *given)[0] == 403
    assert ask(lock, *given, cookie="x" * 22)[0] == 403
    other = (path.format("b1"), query.format("b1").replace("zzz", "yyy"), method, body.format("b1").encode())
    assert ask(lock, *other, cookie=bob)[0] == 200


def test_programs_without_cookies_have_sessions_too_and_visitors_keep_theirs() -> None:
    lock = SessionLock(echo, secure=False)
    assert ask(lock, "/gradio_api/heartbeat/p1")[0] == 200 == ask(lock, "/gradio_api/heartbeat/p1")[0]
    assert ask(lock, "/gradio_api/heartbeat/p1", cookie=visitor(lock))[0] == 403


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"5", b'{"session_hash": null}', b'{"session_hash": ["a"]}', b"[" * 100_000]
)
def test_what_names_no_session_is_left_to_gradio(body: bytes) -> None:
    assert ask(SessionLock(echo, secure=False), "/gradio_api/queue/join", "", "POST", body)[0] == 200


def test_a_session_of_endless_name_is_refused_and_not_remembered() -> None:
    lock = SessionLock(echo, secure=False)
    body = b'{"session_hash": "' + b"x" * 100_000 + b'"}'
    assert ask(lock, "/gradio_api/queue/join", "", "POST", body)[0] == 403
    assert not lock._visitors


def test_the_cookie_is_nobody_elses_business_and_given_once() -> None:
    lock = SessionLock(echo, secure=False)
    assert "HttpOnly; SameSite=Lax" in ask(lock, "/")[2]
    assert ask(lock, "/", cookie=visitor(lock))[2] == "" == ask(lock, "/assets/x.js")[2]
    assert ask(lock, "/", cookie="made-up")[2] != ""
    assert "SameSite=None; Secure; Partitioned" in ask(SessionLock(echo, secure=True), "/")[2]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tl_ui.session_lock._MOST", 50)
    lock = SessionLock(echo, secure=False)
    for number in range(200):
        ask(lock, f"/gradio_api/heartbeat/s{number}")
    assert len(lock._visitors) == 50


@pytest.mark.browser
@pytest.mark.skipif(NEEDS_BROWSER[1].args[0], reason="no chromium on this machine: apt-get install chromium")
def test_case_91_with_the_session_of_a_real_visitor_a_stranger_gets_nothing(context: Any, app: App) -> None:
    page, seen = context.new_page(), list[str]()
    page.on("request", lambda request: seen.append(request.post_data or "") if "queue/join" in request.url else None)
    page.goto(app.url)
    page.wait_for_selector("#upload input[type=file]", state="attached")
    page.click("#your-data button")
    page.wait_for_selector("#your-data-list p")
    session = next(json.loads(body)["session_hash"] for body in seen if "session_hash" in body)
    with httpx.Client(base_url=app.url, trust_env=False, timeout=5) as bob:
        bob.get("/")
        assert COOKIE in bob.cookies
        asked: list[tuple[str, str, Any]] = [
            ("GET", f"gradio_api/queue/data?session_hash={session}", None),
            ("GET", f"gradio_api/heartbeat/{session}", None),
            ("POST", "gradio_api/queue/join", {"session_hash": session, "fn_index": 0, "data": []}),
            ("POST", "gradio_api/cancel", {"session_hash": session, "fn_index": 0, "event_id": "x"}),
        ]
        assert [bob.request(method, path, json=body).status_code for method, path, body in asked] == [403] * 4
    page.click("#your-data button")
    page.click("#your-data button")
    page.wait_for_selector("#your-data-list p")  # hers goes on
    assert opened(context, app)  # and so does another tab of hers
