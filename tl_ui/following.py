"""Of the handlers that follow something on one page, the newest shows it: an older one must not show what is not wanted
any more over it."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any


class Newest:
    """Whose turn it is, by page."""

    def __init__(self) -> None:
        self._of: dict[str | None, object] = {}

    async def only(self, page: str | None, shown: Any) -> AsyncIterator[Any]:
        """What the async generator `shown` gives, until another one begins on the same page (its session hash)."""
        mine = self._of[page] = object()
        try:
            async with aclosing(shown):
                async for one in shown:
                    if self._of.get(page) is not mine:
                        return
                    yield one
        finally:
            if self._of.get(page) is mine:
                del self._of[page]
