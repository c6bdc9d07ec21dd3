"""One log line a request, and counters; never a name, a key or a token: of the address only the kind of route.

The id in the line goes along with the answer as `x-request-id`, so that whoever reports a problem can name it.
"""

import logging
import re
import secrets
import time

from tl_ui.guard import App, Message, Receive, Scope, Send
from tl_ui.operator import Counters

# The first that matches names the route; None is not worth a line.
_ROUTES: tuple[tuple[str, str | None], ...] = (
    (r"/?$", "page"),
    (r"/(assets|static|svelte|favicon|pwa_icon|manifest|robots|theme|custom_component)", None),
    (r"/(gradio_api/)?theme\.css", None),
    (r"/(gradio_api/)?startup-events", None),
    (r"/(gradio_api/)?upload_progress", "upload-progress"),
    (r"/(gradio_api/)?upload", "upload"),
    (r"/(gradio_api/)?file[=/]", "file"),
    (r"/(gradio_api/)?queue/join", "join"),
    (r"/(gradio_api/)?queue/data", "data"),
    (r"/(gradio_api/)?heartbeat", "heartbeat"),
    (r"/(gradio_api/)?(cancel|reset)", "cancel"),
    (r"/(gradio_api/)?(call|run|info)", "call"),
    (r"/(gradio_api/)?mcp", "mcp"),
    (r"/(gradio_api/)?(config|app_id|user|token|login|logout|login_check)", "config"),
)
_KNOWN = [(re.compile(pattern), name) for pattern, name in _ROUTES]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
log = logging.getLogger("transfer_lab.requests")


class RequestLog:
    """Wraps everything else that answers requests."""

    def __init__(self, app: App, *, counters: Counters) -> None:
        self._app, self._counters = app, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id, route, begun = secrets.token_hex(4), route_of(scope["path"]), time.monotonic()
        status, came, went = 0, 0, 0

        async def receive_counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            return message

        async def send_counted(message: Message) -> None:
            nonlocal status, went
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", id.encode())]
            went += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive_counted, send_counted)
        finally:
            seconds = time.monotonic() - begun
            if route is not None:
                method = scope["method"] if scope["method"] in _METHODS else "other"
                log.info("%s %s %s %d %.0f ms in %d out %d", id, method, route, status, seconds * 1000, came, went)
                self._counters.request(route, status, seconds, came)


def route_of(path: str) -> str | None:
    """The kind of route; "other" for what is none of ours, None for files of the page itself."""
    return next((name for pattern, name in _KNOWN if pattern.match(path)), "other")
