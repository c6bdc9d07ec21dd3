"""What has to be in the page's head before Gradio's own scripts: its `head` option comes too late for that."""

from tl_ui.guard import App, Message, Receive, Scope, Send
from tl_ui.session_lock import PAGES

_HEAD = b"<head>"


class PageHead:
    """Wraps the ASGI app: the page comes with `html` first in its head."""

    def __init__(self, app: App, *, html: str) -> None:
        self._app, self._html = app, html.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in PAGES
        await self._app(scope, receive, self._adding(send) if wanted else send)

    def _adding(self, send: Send) -> Send:
        start: Message = {}
        pieces: list[bytes] = []

        async def send_with_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            pieces.append(message.get("body", b""))
            if message.get("more_body", False):
                return
            body = b"".join(pieces).replace(_HEAD, _HEAD + self._html, 1)
            kept = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            await send({**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
            await send({"type": "http.response.body", "body": body})

        return send_with_head
