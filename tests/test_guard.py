"""The doorman, asked directly: who gets in, what is counted, what is taken off and put on."""

import asyncio
from typing import Any

import pytest

from tl_ui.guard import LOOPBACK, Guard, GuardSettings


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the whole body and answers with its size and the forwarded host it was shown."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    forwarded = dict(scope["headers"]).get(b"x-forwarded-host", b"none")
    headers = [(b"access-control-allow-origin", b"*"), (b"cache-control", b"public")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"%d %s" % (size, forwarded)})


def ask(
    path: str = "/",
    method: str = "GET",
    body: bytes = b"",
    chunk: int = 1000,
    served: Any = app,
    settings: GuardSettings | None = None,
    **headers: str,
) -> tuple[int, dict[bytes, bytes], bytes]:
    given = {"host": "127.0.0.1:7860", **{k.replace("_", "-"): v for k, v in headers.items()}}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(k.encode(), v.encode()) for k, v in given.items()],
    }
    pieces = [body[i : i + chunk] for i in range(0, len(body), chunk)] or [b""]
    sent: list[Any] = []

    async def receive() -> Any:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    usual = GuardSettings(
        LOOPBACK | {"me.hf.space"}, max_upload=50_000, max_body=5_000, endpoints=frozenset({"predict"})
    )
    if settings is not None and "content_length" not in headers:
        scope["headers"] = [*scope["headers"], (b"content-length", b"%d" % len(body))]
    guard = Guard(served, settings or usual)
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost", "[::1]:80", "ME.hf.space"])
def test_case_97_our_own_names_are_served(host: str) -> None:
    assert ask(host=host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:7860", ""])
def test_case_97_other_names_are_not(host: str) -> None:
    assert ask(host=host)[0] == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/queue/join"),
        ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/queue/data"),
        ("POST", "/gradio_api/call/predict"),
        ("GET", "/gradio_api/call/predict/1"),
        ("POST", "/gradio_api/mcp/"),
        ("DELETE", "/gradio_api/mcp"),
        ("GET", "/gradio_api/mcp/sse"),
    ],
)
def test_case_85_and_98_other_sites_change_and_follow_nothing(headers: dict[str, str], method: str, path: str) -> None:
    assert ask(path, method, **headers)[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/call/predict",
        "/gradio_api/call/v2/predict/1",
        "/gradio_api/run/predict",
        "/gradio_api/mcp/",
        "/gradio_api/info",
    ],
)
def test_programs_name_no_site_and_get_in(path: str) -> None:
    assert ask(path)[0] == 200 == ask(path, "POST", b"{}")[0]


def test_the_client_behind_the_tools_for_agents_uploads_nothing_of_this_machine() -> None:
    assert ask("/gradio_api/upload", "POST", b"x", x_gradio_user="mcp")[0] == 403
    assert ask("/gradio_api/upload", "POST", b"x", x_gradio_user="api")[0] == 200


def test_the_page_itself_may() -> None:
    same = {"origin": "http://127.0.0.1:7860", "sec_fetch_site": "same-origin"}
    assert ask("/gradio_api/queue/join", "POST", b"{}", **same)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/deep_link",
        "/gradio_api/monitoring/summary",
        "/monitoring",
        "/gradio_api/process_recording",
        "/gradio_api/dev/reload",
        "/gradio_api/run-history",
        "/gradio_api/runs",
        "/gradio_api/component_server",
        "/gradio_api/proxy=https://x",
        "/gradio_api/file=https://evil.example/x",
        "/gradio_api/openapi.json",
        "/gradio_api/run/ask_to_stop",
        "/gradio_api/api/predict",
        "/gradio_api/call/begin",
        "/gradio_api/call/v2/begin",
        "/call/begin/1",
    ],
)
def test_case_79_and_99_routes_the_page_does_not_use_are_closed(path: str) -> None:
    assert ask(path)[0] == 404


def test_case_103_bodies_are_limited_by_their_word_and_by_count() -> None:
    join, upload = "/gradio_api/queue/join", "/gradio_api/upload"
    assert ask(join, "POST", b"x" * 5_000)[0] == 200
    assert ask(join, "POST", b"x", content_length="5001")[0] == 413
    assert ask(join, "POST", b"x" * 5_001)[0] == 413
    assert ask(upload, "POST", b"x" * 50_000)[0] == 200
    assert ask(upload, "POST", b"x" * 50_001)[0] == 413
    assert ask(join, "POST", b"x", content_length="-1")[0] == 413


def test_case_100_a_forwarded_host_from_a_stranger_is_not_believed() -> None:
    assert ask(x_forwarded_host="evil.example")[2].endswith(b"none")


def test_case_101_and_102_headers_protect_the_visitor() -> None:
    _, headers, _ = ask("/gradio_api/file=/tmp/x.jpg")
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert b"frame-ancestors 'self' https://huggingface.co" in headers[b"content-security-policy"]
    assert b"img-src 'self' data: blob:;" in headers[b"content-security-policy"]
    assert headers[b"cache-control"] == b"private, no-store"
    assert b"access-control-allow-origin" not in headers


@pytest.mark.parametrize(("path", "caught"), [("/gradio_api/call/v2/predict", True), ("/gradio_api/queue/join", False)])
def test_parameters_that_an_endpoint_does_not_have_are_the_callers_mistake(path: str, caught: bool) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise TypeError("Parameter `x` is not a valid key-word argument.")

    if not caught:
        with pytest.raises(TypeError):
            ask(path, "POST", served=failing)
        return
    status, _, text = ask(path, "POST", served=failing)
    assert status == 400 and b"parameters" in text


def test_websockets_are_not_served() -> None:
    sent: list[Any] = []

    async def run() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        await Guard(app, GuardSettings(LOOPBACK, 1))({"type": "websocket", "path": "/"}, send, send)  # type: ignore[arg-type]

    asyncio.run(run())
    assert sent == []
