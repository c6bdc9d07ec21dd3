"""The doorman: an ASGI middleware between strangers and Gradio, whose defaults trust too much.

Refuses requests to other host names (DNS rebinding), from other sites (CSRF, dropping files into a local app), with
bodies over a limit (counted while they stream), too slow or too large for the disk, and to routes the page does not
use; removes headers a client could
use to make the page load things from elsewhere; adds the headers a browser needs to protect the visitor.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
_CLOSED = re.compile(
    r"/(?:gradio_api/)?(?:deep_link|monitoring|process_recording|dev/|run-history|runs|vibe|proxy=|component_server"
    r"|file=https?:|openapi\.json|api/|run/(?!predict/?$))"
)
# A named endpoint: Gradio answers for the private ones of the page, too, whatever they are called.
_NAMED = re.compile(r"/(?:gradio_api/)?call/(?:v2/)?([^/]*)")
_PAGE = re.compile(r"/?|/config/?")
_UPLOAD = re.compile(r"/(?:gradio_api/)?upload$")
# What a page of another site must not even listen to: answers, and the tools for agents.
_LISTENING = re.compile(r"/(?:gradio_api/)?(?:queue|call|mcp)(?:/|$)")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_FRAMES = "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co"
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' "
    f"blob:; object-src 'none'; base-uri 'self'; form-action 'self'; {_FRAMES}"
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", _POLICY.encode()),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=(), payment=(), usb=()"),
)
_SILENCE_SECONDS = 30.0  # that a body may bring nothing
_LEAST_RATE = 1_000  # bytes a second that it has to bring, after the first minute
_GRACE_SECONDS = 60.0
_DROPPED_REQUEST_HEADERS = frozenset({b"x-forwarded-host", b"x-gradio-server"})


@dataclass(frozen=True)
class GuardSettings:
    """`hosts` are the names the page is reached by, without port; sizes in bytes; `endpoints` may be called by name.
    Behind a proxy that sets the forwarded host itself (`trust_proxy`), its header is kept. `room` says how many bytes
    the disk still takes."""

    hosts: frozenset[str]
    max_upload: int
    max_body: int = 2_000_000
    trust_proxy: bool = False
    endpoints: frozenset[str] = frozenset()
    room: Callable[[], int] = lambda: 2**63


class _TooLargeError(Exception):
    pass


class _TooSlowError(Exception):
    pass


class Guard:
    """Wraps the ASGI app; see the module."""

    def __init__(self, app: App, settings: GuardSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # the page opens no websocket
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope, headers)
        if refused is not None:
            await answer(send, *refused)
            return
        if not self._settings.trust_proxy:
            scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() not in _DROPPED_REQUEST_HEADERS]
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = _guarded(message.get("headers", []), scope["path"])
            await send(message)

        try:
            await self._app(scope, self._counted(scope, receive), send_guarded)
        except (_TooLargeError, _TooSlowError, TypeError) as error:
            told = _failure(error, scope["path"])
            if told is None:
                raise
            if not started:
                await answer(send, *told)

    def _refusal(self, scope: Scope, headers: dict[bytes, str]) -> tuple[int, str] | None:
        if _host(headers.get(b"host", "")) not in self._settings.hosts:
            return 421, "This page is not served under that name."
        path = scope["path"]
        named = _NAMED.match(path)
        if _CLOSED.match(path) or (named is not None and named[1] not in self._settings.endpoints):
            return 404, "Not found."
        if self._cross_site(scope, headers):
            return 403, "Requests from other sites are not accepted."
        if _UPLOAD.search(path) and headers.get(b"x-gradio-user") == "mcp":
            # Gradio's own client behind the MCP tools, about to send a file of this machine that a caller has named.
            return 403, "Upload the file yourself, then give its path."
        length = headers.get(b"content-length", "0")
        if not length.isdecimal() or int(length) > self._limit(path):
            return 413, "This is larger than the page accepts."
        if _UPLOAD.search(path) and scope["method"] == "POST" and int(length) > self._settings.room():
            return 507, "The disk of this machine is full. Try again later, or tell whoever runs this page."
        return None

    def _cross_site(self, scope: Scope, headers: dict[bytes, str]) -> bool:
        if scope["method"] in _SAFE_METHODS and not _LISTENING.match(scope["path"]):
            return False
        if headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return True
        origin = headers.get(b"origin")
        return origin is not None and urlsplit(origin).netloc != headers.get(b"host", "")

    def _limit(self, path: str) -> int:
        return self._settings.max_upload if _UPLOAD.search(path) else self._settings.max_body

    def _counted(self, scope: Scope, receive: Receive) -> Receive:
        limit, seen, begun = self._limit(scope["path"]), 0, time.monotonic()
        whole = scope["method"] in _SAFE_METHODS  # later on, what is waited for is the visitor's leaving

        async def receive_counted() -> Message:
            nonlocal seen, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), _SILENCE_SECONDS)
            except asyncio.TimeoutError:
                raise _TooSlowError from None
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > limit:
                raise _TooLargeError
            late = time.monotonic() - begun
            if not whole and late > _GRACE_SECONDS and seen < late * _LEAST_RATE:
                raise _TooSlowError
            return message

        return receive_counted


def _failure(error: Exception, path: str) -> tuple[int, str] | None:
    """What is said of an error that is the caller's; None for one that is not."""
    if isinstance(error, _TooLargeError):
        return 413, "This is larger than the page accepts."
    if isinstance(error, _TooSlowError):
        return 408, "This came too slowly. Try again with a better connection, or send less at a time."
    if _NAMED.match(path):  # how Gradio fails at parameters that an endpoint does not have, or lacks
        return 400, "This endpoint needs other parameters; /gradio_api/info says which."
    return None


def _host(value: str) -> str:
    host = value.rsplit(":", 1)[0] if re.search(r":\d+$", value) else value
    return host.lower()


def _guarded(headers: list[tuple[bytes, bytes]], path: str) -> list[tuple[bytes, bytes]]:
    kept = [pair for pair in headers if not pair[0].lower().startswith(b"access-control-")]
    added = list(_HEADERS)
    if "/file=" in path or _PAGE.fullmatch(path):  # somebody's picture or model, or cookie: not for a shared cache
        kept = [pair for pair in kept if pair[0].lower() != b"cache-control"]
        added.append((b"cache-control", b"private, no-store"))
    return kept + added


async def answer(send: Send, status: int, text: str) -> None:
    """Answer with `text` as it is, and the headers that protect a visitor."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
