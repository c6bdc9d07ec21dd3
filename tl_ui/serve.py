"""Builds the page and serves it: what `make app`, `transfer-lab` and a Hugging Face Space run.

Importing this is starting: Gradio and torch read some of the environment once, when they are imported, so that is
settled between the imports below, in their order.
"""

import argparse
import contextlib
import gc
import importlib.util
import itertools
import logging
import os
import shutil
import signal
import sys
import threading
from typing import Any

# Before Gradio is imported: it reads these once. Nobody's pictures, names or clicks are sent anywhere.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from tl_core import memory, redaction
from tl_core.errors import TLError
from tl_core.queue_errors import QueueUnreachableError
from tl_core.settings import Settings
from tl_ui.quick_import import without_stubs

try:
    SETTINGS = Settings.from_environment()
except TLError as error:
    sys.exit(str(error))
os.environ["GRADIO_TEMP_DIR"] = str(SETTINGS.data_dir / "web")

with without_stubs():
    gc.disable()  # until the page is up: what is imported and built stays, and looking for garbage in it takes time
    if os.environ.get("SPACES_ZERO_GPU"):  # before anything else that imports torch: it replaces parts of it
        import spaces  # noqa: F401
    import gradio as gr

from starlette.middleware import Middleware

from tl_core.jobs.janitor import sweep
from tl_core.jobs.ray_driver import RayDispatcher
from tl_core.jobs.recovery import agree, open_folder, recover
from tl_core.jobs.store import Store
from tl_core.jobs.supervisor import WorkerSupervisor
from tl_ui.api import ENDPOINTS
from tl_ui.closed_pages import forget_closed
from tl_ui.guard import LOOPBACK, Guard, GuardSettings
from tl_ui.language import CSS as LANGUAGE_CSS
from tl_ui.language import script
from tl_ui.operator import Counters, Operator
from tl_ui.page import build, translations
from tl_ui.page_head import PageHead
from tl_ui.request_log import RequestLog
from tl_ui.session_lock import SessionLock
from tl_ui.theme import CSS, FIRST_CSS, THEME
from tl_ui.workspace import Workspace
from tl_ui.zerogpu import ON_ZEROGPU, Borrower

_LET_GO_SECONDS = 60  # closed pages and their memory: often, so that little gathers
_SWEEPS = 5  # once in so many times also what takes longer: files that are too old, objects in circles
ON_SPACE = os.environ.get("SYSTEM") == "spaces"


def launch_settings(
    i18n: gr.I18n, trainer: WorkerSupervisor, store: Store, *, host: str, port: int | None, open_browser: bool
) -> dict[str, Any]:
    """How the page is served: nothing recorded in browsers, nothing open that the page does not use."""
    hosts = LOOPBACK | {name for name in (os.environ.get("SPACE_HOST"), *_extra_hosts()) if name}
    guard = GuardSettings(
        frozenset(hosts),
        max_upload=SETTINGS.max_upload + 1_000_000,
        trust_proxy=ON_SPACE,
        endpoints=ENDPOINTS,
        room=_room,
    )
    counters = Counters(lambda: _counts(trainer, store))
    token = os.environ.get("TL_METRICS_TOKEN", "")
    middleware = [
        Middleware(Operator, counters=counters, healthy=lambda: _healthy(trainer, store), token=token),
        Middleware(RequestLog, counters=counters),
        Middleware(Guard, settings=guard),
        Middleware(SessionLock, secure=ON_SPACE),
        Middleware(PageHead, html=f"<style>{FIRST_CSS}{LANGUAGE_CSS}</style>{script()}"),
    ]
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
        "app_kwargs": {"middleware": middleware, "openapi_url": None},
        "theme": THEME,
        "css": CSS,
        "i18n": i18n,
    }


def _room() -> int:
    """Bytes that the disk still takes beside what is to stay free."""
    return shutil.disk_usage(SETTINGS.data_dir).free - SETTINGS.free_disk_reserve


def _healthy(trainer: WorkerSupervisor, store: Store) -> bool:
    """Whether a visitor could upload and train."""
    try:
        store.running()
    except QueueUnreachableError:
        return False
    return trainer.healthy and _room() > 0


def _counts(trainer: WorkerSupervisor, store: Store) -> dict[str, float]:
    """What an operator watches."""
    counts = {"trainer_up": float(trainer.healthy), "disk_free_bytes": float(max(0, _room()))}
    with contextlib.suppress(QueueUnreachableError):
        counts |= {"runs_waiting": len(store.waiting()), "runs_running": len(store.running())}
        counts["runs_kept"] = len(store.all())
    return counts


def _extra_hosts() -> list[str]:
    """Names from TL_HOSTS (comma-separated) that a proxy in front of the page is reached by."""
    return [name.strip().lower() for name in os.environ.get("TL_HOSTS", "").split(",") if name.strip()]


def _opened() -> Store:
    """The queue, in agreement with the folders. Raises TLError when there is no place to keep anything."""
    open_folder(SETTINGS)
    store = Store(SETTINGS, mend=True)
    if SETTINGS.ray_address:
        agree(store, SETTINGS)  # the cluster's runs are not known by this machine's locks
    else:
        recover(store, SETTINGS)
    return store


def _sweep(store: Store) -> None:
    """Delete what is too old. What fails then is tried again the next time: it is no reason to end the page."""
    try:
        sweep(SETTINGS, store)
    except (OSError, QueueUnreachableError):
        logging.getLogger("transfer_lab.page").exception("not all that is too old could be deleted")


def _shut_down(page: gr.Blocks, worker: WorkerSupervisor, work: Workspace) -> None:
    """End within the eight seconds that hosts of containers give, with every run left where it can be gone on from."""
    closing = threading.Thread(target=page.close, kwargs={"verbose": False}, daemon=True)
    closing.start()  # it waits for browsers that hold their connections
    worker.close()
    work.sets.close()
    closing.join(timeout=1)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # taking libraries apart takes seconds more, and threads that still answer would be waited for


def main(*, open_browser: bool = False) -> None:
    """Serve the page until SIGTERM or Ctrl-C; whether it opens in the browser unless the options say."""
    parser = argparse.ArgumentParser(description="Transfer Lab: train an image classifier in the browser.")
    parser.add_argument("--host", default="0.0.0.0" if ON_SPACE else "127.0.0.1")
    parser.add_argument("--port", type=int, default=7860 if ON_SPACE else None)
    opening = argparse.BooleanOptionalAction
    parser.add_argument("--open", action=opening, default=open_browser, help="open the page in the browser")
    args = parser.parse_args()

    memory.give_back()
    redaction.install()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("transfer_lab").setLevel(os.environ.get("TL_LOG", "INFO" if ON_SPACE else "WARNING").upper())
    try:
        store = _opened()
    except TLError as error:
        sys.exit(str(error))
    work = Workspace(SETTINGS, store, Borrower(SETTINGS, store) if ON_ZEROGPU else None)
    i18n = translations(SETTINGS)
    _sweep(store)
    work.sets.tidy()
    page = build(work, i18n)
    page.queue(max_size=64, api_open=False, default_concurrency_limit=16)
    worker = RayDispatcher(SETTINGS, store) if SETTINGS.ray_address else WorkerSupervisor(SETTINGS, store)
    settings = launch_settings(i18n, worker, store, host=args.host, port=args.port, open_browser=args.open)
    _, url, _ = page.launch(**settings)
    gc.freeze()
    gc.enable()
    print(f"Transfer Lab is at {url}  (Ctrl-C to stop)", flush=True)
    try:
        worker.start()
    except TLError as error:
        sys.exit(str(error))
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    for times in itertools.count(1):
        if stopping.wait(_LET_GO_SECONDS):
            break
        forget_closed(page)
        if times % _SWEEPS == 0:
            _sweep(store)
            gc.collect()  # pages hold themselves in circles; nobody is answered for the third of a second that it takes
        memory.trim()
    _shut_down(page, worker, work)
