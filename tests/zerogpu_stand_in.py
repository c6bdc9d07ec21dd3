"""Runs app.py on the real `spaces` code path without a GPU: `python -m tests.zerogpu_stand_in CONTROL app.py …`.

The device API of a ZeroGPU Space listens on loopback. Of `spaces` only the two places that touch CUDA are replaced, so
slices really train, on the processor, in the process that `spaces` forks. CONTROL is a folder: every request is a line
of its `log`; while it has a file `refuse` nobody has GPU time left, or only so many seconds as are written there, and
while it has `busy` visitors queue for a GPU in vain.
"""

import json
import os
import runpy
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

CONTROL = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
_LOCK = threading.Lock()


def left() -> float:
    """Seconds of GPU time that every visitor has."""
    refused = CONTROL / "refuse"
    return float(refused.read_text() or 0) if refused.exists() else float("inf")


class DeviceAPI(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        asked = urlsplit(self.path)
        with _LOCK, (CONTROL / "log").open("a") as log:
            log.write(json.dumps([asked.path, {k: v[0] for k, v in parse_qs(asked.query).items()}]) + "\n")
        seconds = int(parse_qs(asked.query).get("durationSeconds", ["0"])[0])
        if asked.path == "/schedule" and (CONTROL / "busy").exists():
            return self.answer(200, b"event: failed\n\n", "text/event-stream")
        if asked.path == "/schedule" and seconds > left():
            return self.answer(429, {"left": int(left()), "wait": "PT2H"})
        if asked.path == "/schedule":
            lent = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-none", "allowToken": os.urandom(4).hex()}
            return self.answer(200, lent)
        return self.answer(200, {})

    def answer(self, status: int, content: Any, kind: str = "application/json") -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), DeviceAPI)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cgroup = CONTROL / "cgroup"
    cgroup.write_text("0::/none\n13:devices:/none\n")
    os.environ |= {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{server.server_port}",
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(cgroup),
    }
    import spaces.zero.torch as cuda

    cuda.init = lambda uuid: None
    cuda.move = lambda callback=None: None
    cuda.size = lambda: 0
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
