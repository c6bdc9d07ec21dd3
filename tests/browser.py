"""The real app in its own process and a real Chromium, for the tests that use the page as people do."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hub_stand_in import StandIn, serve

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
]
ROOT = Path(__file__).parents[1]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@dataclass
class App:
    """The running app: where it is, where it keeps things, the Hub it talks to, and its process."""

    url: str
    data: Path
    hub: StandIn
    log: Path
    pid: int = 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    folder: Path, *, command: Sequence[str] = (sys.executable, "app.py"), cwd: Path = ROOT, **more: str
) -> Iterator[App]:
    """The app in a process of its own that keeps everything below `folder`, with `more` in its environment."""
    hub, server = serve()
    port = free_port()
    environment = {
        **os.environ,
        "TL_DATA_DIR": str(folder / "data"),
        "TORCH_HOME": str(folder / "torch"),
        "HF_HOME": str(folder / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_hosthosthost",
        **more,
    }
    log = folder / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port)], cwd=cwd, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}/"
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=1).close()
            break
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    yield App(url, folder / "data", hub, log, process.pid)
    process.terminate()
    assert process.wait(timeout=8) == 0, "SIGTERM must end the app cleanly within 8 seconds"
    server.shutdown()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with running(tmp_path_factory.mktemp("app")) as started:
        yield started


@pytest.fixture(scope="module")  # one Playwright at a time: test_parts has its own
def browser() -> Iterator[Any]:
    playwright_api = pytest.importorskip("playwright.sync_api")
    with playwright_api.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Any, app: App) -> Iterator[Any]:
    """A browser profile of its own; fails the test on a script error or any request that leaves the machine."""
    fresh = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US", permissions=["camera"])
    fresh.set_default_timeout(30_000)
    problems: list[str] = []
    fresh.on("request", lambda r: problems.append(r.url) if not r.url.startswith((app.url, "data:", "blob:")) else None)
    fresh.on("weberror", lambda e: problems.append(str(e.error)) if "aborted" not in str(e.error) else None)
    yield fresh
    fresh.close()
    assert problems == []


def opened(context: Any, app: App) -> Any:
    page = context.new_page()
    page.goto(app.url)
    page.wait_for_selector("#upload input[type=file]", state="attached")
    return page


def upload(page: Any, file: Path) -> None:
    page.set_input_files("#upload input[type=file]", str(file))


def train_on_page(page: Any) -> None:
    """From pictures that were read to a result that can be looked at; the plan is waited for, as people do."""
    page.click("#to-train", timeout=60_000)
    page.wait_for_selector("#estimate:has-text('on this computer')")
    page.click("#start")
    page.wait_for_selector("#to-results:visible", timeout=90_000)
