"""How soon the page answers, against importing Gradio and launching an empty page.

python -m bench.startup
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from bench.machine import describe

ROUNDS = 5
ROOT = Path(__file__).parents[1]
BARE = "import sys, gradio as gr\nwith gr.Blocks() as b: pass\nb.launch(server_port=int(sys.argv[2]), quiet=True)"


def seconds_until_up(command: list[str], port: int, environment: dict[str, str]) -> float:
    """Seconds from starting `command` until its page is delivered with its configuration."""
    started = time.monotonic()
    process = subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                for path in ("", "config"):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5).read()
                return time.monotonic() - started
            except OSError:
                time.sleep(0.02)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    print(describe())
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "TL_DATA_DIR": scratch, "GRADIO_ANALYTICS_ENABLED": "False"}
        pairs = []
        for _ in range(ROUNDS):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            mine = seconds_until_up([sys.executable, "app.py"], port, environment)
            bare = seconds_until_up([sys.executable, "-c", BARE], port, environment)
            pairs.append((mine, bare))
    mine, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"page up: ours {mine:.2f} s, import gradio and an empty page {bare:.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
