"""Binds Gradio's sessions to visitors: knowing a `session_hash` opens nothing.

Gradio's browser code makes that number with `Math.random()`, and whoever sends it reads that visitor's answers, joins
and cancels in their name. Here the page comes with a cookie of 128 random bits; the first request that names a session
binds it to the cookie it came with, and later ones with another cookie, or with none, are refused. Programs without
cookies bind to "none": their sessions are as secret as the number they made. So are those of a browser that sends no
cookie, as where a Space is framed by another site and third-party cookies are blocked altogether.
"""

import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from tl_ui.guard import App, Message, Receive, Scope, Send, answer

COOKIE = "tl_visitor"
_MOST = 10_000  # sessions remembered; as many as Gradio keeps
_LONGEST = 64  # characters of a session's name; Gradio's own have 11, its client's 36
_VISITOR = re.compile(r"[A-Za-z0-9_-]{22}")
_IN_PATH = re.compile(r"/(?:gradio_api/)?(?:heartbeat|stream)/([^/]+)")
# POST bodies in which Gradio looks for a session.
_IN_BODY = re.compile(r"/(?:gradio_api/)?(?:queue/join|cancel|reset|run/|call/)")
PAGES = ("/", "/index.html")  # addresses of the page itself


class SessionLock:
    """Wraps the ASGI app, inside the guard, which bounds bodies. `secure`: the page is reached by https only, maybe
    within a frame of another site."""

    def __init__(self, app: App, *, secure: bool) -> None:
        self._app = app
        self._attributes = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Lax"
        self._visitors: OrderedDict[str, str] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visitor = _visitor(scope)
        sessions = list(_named(scope))
        if scope["method"] == "POST" and _IN_BODY.match(scope["path"]):
            body, receive = await _read(receive)
            sessions += _in_body(body)
        if not all(self._may(visitor, session) for session in sessions):
            await answer(send, 403, "This session belongs to another visitor. Load the page anew.")
            return
        await self._app(scope, receive, send if visitor or scope["path"] not in PAGES else self._welcoming(send))

    def _may(self, visitor: str, session: str) -> bool:
        """Whether the session is that visitor's, who gets it when it is nobody's."""
        if len(session) > _LONGEST:
            return False
        bound = self._visitors.setdefault(session, visitor)
        self._visitors.move_to_end(session)
        while len(self._visitors) > _MOST:
            self._visitors.popitem(last=False)
        return secrets.compare_digest(bound, visitor)

    def _welcoming(self, send: Send) -> Send:
        """`send` that gives the visitor a cookie."""
        cookie = f"{COOKIE}={secrets.token_urlsafe(16)}; Path=/; HttpOnly; {self._attributes}".encode()

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"set-cookie", cookie)]
            await send(message)

        return send_with_cookie


def _visitor(scope: Scope) -> str:
    """The visitor's cookie; "" without one, or with one that we never made."""
    for name, value in scope["headers"]:
        if name.lower() != b"cookie":
            continue
        try:
            found = SimpleCookie(value.decode("latin-1")).get(COOKIE)
        except CookieError:
            continue
        if found is not None and _VISITOR.fullmatch(found.value):
            return found.value
    return ""


def _named(scope: Scope) -> Iterator[str]:
    """Sessions in the address."""
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    yield from query.get("session_hash", ())
    in_path = _IN_PATH.match(scope["path"])
    if in_path is not None:
        yield in_path[1]


def _in_body(body: bytes) -> list[str]:
    """The session in a body, read as Gradio reads it."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return []
    session = found.get("session_hash") if isinstance(found, dict) else None
    return [session] if isinstance(session, str) else []


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """The whole body, and a `receive` that gives it again."""
    messages: list[Message] = []
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    waiting = iter(messages)

    async def receive_again() -> Message:
        return next(waiting, None) or await receive()

    return b"".join(message.get("body", b"") for message in messages), receive_again
