"""For whoever runs the page: `/healthz` for a load balancer, `/metrics` for Prometheus.

`/healthz` answers under any name, as load balancers ask by address, and says nothing but yes or no. `/metrics` is for
callers on this machine that come through no proxy, and for those who know `TL_METRICS_TOKEN`.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tl_ui.guard import App, Receive, Scope, Send, answer

_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_FOLLOWING = frozenset(
    {"data", "heartbeat", "upload-progress", "mcp"}
)  # open as long as a page is: no measure of speed
_LOCAL = frozenset({"127.0.0.1", "::1"})


class Counters:
    """What is counted since the program started, and gauges that `counts` gives when they are asked for."""

    def __init__(self, counts: Callable[[], Mapping[str, float]]) -> None:
        self._counts, self._registry = counts, CollectorRegistry()
        labels = ("route", "status")
        self._requests = Counter("tl_requests", "Requests answered", labels, registry=self._registry)
        self._seconds = Histogram(
            "tl_request_seconds", "How long they took", ("route",), buckets=_SECONDS, registry=self._registry
        )
        self._bytes = Counter("tl_bytes_received", "Bytes of bodies", ("route",), registry=self._registry)
        self._gauges: dict[str, Gauge] = {}

    def request(self, route: str, status: int, seconds: float, came: int) -> None:
        self._requests.labels(route, f"{status // 100}xx").inc()
        self._bytes.labels(route).inc(came)
        if route not in _FOLLOWING:
            self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        for name, value in self._counts().items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(f"tl_{name}", name.replace("_", " "), registry=self._registry)
            self._gauges[name].set(value)
        return generate_latest(self._registry)


class Operator:
    """Wraps the guard, which lets neither of the two through."""

    def __init__(self, app: App, *, counters: Counters, healthy: Callable[[], bool], token: str) -> None:
        self._app, self._counters, self._healthy, self._token = app, counters, healthy, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["path"] if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") else ""
        if asked == "/healthz":
            well = await asyncio.to_thread(self._healthy)
            await answer(send, 200 if well else 503, "ok\n" if well else "not well\n")
        elif asked == "/metrics" and self._may(scope):
            await answer(send, 200, (await asyncio.to_thread(self._counters.text)).decode())
        else:
            await self._app(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self._token:
            return secrets.compare_digest(headers.get(b"authorization", b""), f"Bearer {self._token}".encode())
        forwarded = any(name == b"forwarded" or name.startswith(b"x-forwarded-") for name in headers)
        return (scope.get("client") or ("",))[0] in _LOCAL and not forwarded
