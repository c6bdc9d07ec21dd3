"""Builds the page and serves it: what `make app` and a Hugging Face Space run."""

import argparse
import importlib.util
import os
import signal
import sys
import threading
from typing import Any

# Before Gradio is imported: it reads these once. Nobody's pictures, names or clicks are sent anywhere.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from tl_core import redaction
from tl_core.errors import TLError
from tl_core.settings import Settings

try:
    SETTINGS = Settings.from_environment()
except TLError as error:
    sys.exit(str(error))
os.environ["GRADIO_TEMP_DIR"] = str(SETTINGS.data_dir / "web")

if os.environ.get("SPACES_ZERO_GPU"):  # before anything else that imports torch: it replaces parts of it
    import spaces  # noqa: F401

import gradio as gr
from starlette.middleware import Middleware

from tl_core.jobs.runs import sweep
from tl_core.jobs.supervisor import WorkerSupervisor
from tl_ui.api import ENDPOINTS
from tl_ui.guard import LOOPBACK, Guard, GuardSettings
from tl_ui.page import build, translations
from tl_ui.theme import CSS, THEME
from tl_ui.workspace import Workspace
from tl_ui.zerogpu import ON_ZEROGPU, Borrower

ON_SPACE = os.environ.get("SYSTEM") == "spaces"


def launch_settings(i18n: gr.I18n, *, host: str, port: int | None, open_browser: bool) -> dict[str, Any]:
    """How the page is served: nothing recorded in browsers, nothing open that the page does not use."""
    hosts = LOOPBACK | {name for name in (os.environ.get("SPACE_HOST"), *_extra_hosts()) if name}
    limit = SETTINGS.max_upload + 1_000_000
    guard = GuardSettings(frozenset(hosts), max_upload=limit, trust_proxy=ON_SPACE, endpoints=ENDPOINTS)
    return {
        "server_name": host,
        "server_port": port,
        "inbrowser": open_browser,
        "prevent_thread_lock": True,
        "quiet": True,
        "show_error": False,
        "share": False,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": importlib.util.find_spec("mcp") is not None,  # gradio[mcp]; the page does without
        "strict_cors": True,
        "footer_links": [],
        "allowed_paths": [],
        "max_file_size": SETTINGS.max_upload,
        "state_session_capacity": 500,
        "app_kwargs": {"middleware": [Middleware(Guard, settings=guard)], "openapi_url": None},
        "theme": THEME,
        "css": CSS,
        "i18n": i18n,
    }


def _extra_hosts() -> list[str]:
    """Names from TL_HOSTS (comma-separated) that a proxy in front of the page is reached by."""
    return [name.strip().lower() for name in os.environ.get("TL_HOSTS", "").split(",") if name.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Transfer Lab: train an image classifier in the browser.")
    parser.add_argument("--host", default="0.0.0.0" if ON_SPACE else "127.0.0.1")
    parser.add_argument("--port", type=int, default=7860 if ON_SPACE else None)
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    args = parser.parse_args()

    redaction.install()
    SETTINGS.data_dir.mkdir(parents=True, exist_ok=True)
    work, i18n = Workspace(SETTINGS, Borrower(SETTINGS) if ON_ZEROGPU else None), translations(SETTINGS)
    sweep(SETTINGS)
    work.sweep_exports()
    work.sets.tidy()
    page = build(work, i18n)
    page.queue(max_size=64, api_open=False, default_concurrency_limit=16)
    settings = launch_settings(i18n, host=args.host, port=args.port, open_browser=args.open)
    _, url, _ = page.launch(**settings)
    print(f"Transfer Lab is at {url}  (Ctrl-C to stop)", flush=True)

    worker = WorkerSupervisor(SETTINGS)
    worker.start()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    while not stopping.wait(3_600):
        sweep(SETTINGS)
        work.sweep_exports()
    worker.close()
    work.sets.close()
    page.close(verbose=False)
    sys.exit(0)


if __name__ == "__main__":
    main()
