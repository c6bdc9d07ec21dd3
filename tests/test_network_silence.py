"""Nothing leaves the machine unasked (case 135): every process of the real app notes what it would connect to or look
up, from its first line on, while pictures are read, a model is trained, asked, exported and downloaded.

Covered is what Python does (`sys.addaudithook`); libraries that open sockets in C alone are not seen.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from tests.browser import ROOT, App, running
from tests.test_api import lay_out

# A sitecustomize, which Python imports before anything else. Children start with scrubbed environments: it puts itself
# into those of Python processes, so that none is unwatched.
WATCH = """
import json, os, socket, subprocess, sys
_HERE = os.path.dirname(os.path.abspath(__file__))
_OURS = ("127.", "::1", "localhost", "0.0.0.0", "::ffff:127.")
_SWITCHES = ("HF_HUB_DISABLE_TELEMETRY", "GRADIO_ANALYTICS_ENABLED")

def _note(*words):
    handle = os.open(os.path.join(_HERE, "calls"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, (json.dumps(words) + "\\n").encode())
    os.close(handle)

def _watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        where = arguments[1]
        if isinstance(where, tuple) and not (str(where[0]).startswith(_OURS) and where[1] != 9):
            _note(event, where)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
        host = host.decode() if isinstance(host, bytes) else host
        if host and host != socket.gethostname() and not host.startswith(_OURS):
            _note(event, host)

sys.addaudithook(_watch)
_note("started", sys.orig_argv)
_start = subprocess.Popen.__init__

def _watched(self, *arguments, **named):
    if named.get("env") is not None:
        path = os.pathsep.join(filter(None, (_HERE, named["env"].get("PYTHONPATH"))))
        named["env"] = {**named["env"], "PYTHONPATH": path}
        command = (arguments or (named["args"],))[0]
        if sys.executable in command:
            _note("environment", {name: named["env"].get(name) for name in _SWITCHES})
    _start(self, *arguments, **named)

subprocess.Popen.__init__ = _watched
"""
PROCESSES = (
    "app.py",
    "tl_core.jobs.worker",
    "tl_core.data.decoder_process",
    "tl_core.review",
    "tl_core.exports.process",
)


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the watch; what is noted goes to the file `calls` in it."""
    folder = tmp_path_factory.mktemp("watch")
    (folder / "sitecustomize.py").write_text(WATCH)
    return folder


@pytest.fixture(scope="module")
def app(notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app as people start it: with the real Hub's address, no proxy, and no variable of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*os.environ,):
            if name.lower().endswith("_proxy") or name.startswith(("HF_", "GRADIO_", "TL_")):
                patch.delenv(name)
        patch.setenv("PYTHONPATH", str(notes))
        with running(tmp_path_factory.mktemp("silent"), HF_ENDPOINT="https://huggingface.co") as started:
            yield started


def noted(notes: Path, kind: str) -> list[Any]:
    """What was noted of one kind: its name, and what it was about."""
    lines = [json.loads(line) for line in (notes / "calls").read_text().splitlines()]
    return [line for line in lines if line[0].startswith(kind)]


def work(app: App, folder: Path) -> dict[str, Any]:
    """Read, train, predict, export and download through the endpoints for programs; the last status."""
    lay_out(folder)
    client = Client(app.url, verbose=False)
    seen = client.predict(handle_file(str(folder / "pictures.zip")), api_name="/inspect")
    run = client.predict(seen["set_key"], api_name="/train")["run_key"]
    until = time.monotonic() + 120
    while (status := client.predict(run, api_name="/status"))["state"] not in ("finished", "failed"):
        assert time.monotonic() < until, status
        time.sleep(0.5)
    client.predict(run, [handle_file(str(folder / "photo.jpg"))], api_name="/predict")
    for kind in ("bundle", "script"):
        client.predict(run, kind, api_name="/bundle")
    return dict(status)


def test_case_135_what_counts_its_users_is_switched_off_before_it_is_imported() -> None:
    """OpenVINO tells Google of every network it converts, has no variable against it, and takes a stub where the module
    that does so is missing; the others have variables."""
    code = (
        "import os, tl_core; from openvino.tools.ovc import telemetry_utils as one; "
        "print(one.tm.__name__, os.environ['HF_HUB_DISABLE_TELEMETRY'], os.environ['RAY_USAGE_STATS_ENABLED'])"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "RAY_"))}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "1", "0"], done.stderr


@pytest.mark.slow
def test_case_135_nothing_leaves_the_machine_unasked(app: App, notes: Path, tmp_path: Path) -> None:
    assert work(app, tmp_path)["state"] == "finished"
    watched = " ".join(" ".join(line[1]) for line in noted(notes, "started"))
    assert [name for name in PROCESSES if name not in watched] == [], "a process that nobody watched"
    assert noted(notes, "socket.") == []
    told = [line[1] for line in noted(notes, "environment")]
    assert len(told) >= len(PROCESSES) - 1
    for one in told:  # Gradio writes "True" into the first itself
        assert one["HF_HUB_DISABLE_TELEMETRY"] in ("1", "True") and one["GRADIO_ANALYTICS_ENABLED"] == "False"
