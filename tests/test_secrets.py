"""A token is used in one call and is nowhere afterwards: the real app in its own process, asked over plain HTTP.

Cases 77 and 79 are the browser's: see test_page. 85 is in test_guard, 75, 83, 84 and 86 in test_hub.
"""

import base64
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.browser import ROOT, App, running
from tests.hub_stand_in import GOOD, SIGNED_IN
from tests.test_bundle import made
from tl_core import redaction
from tl_core.bundle.files import to_zip
from tl_core.bundle.opening import open_bundle
from tl_core.jobs.runs import folder_of, new_key
from tl_core.redaction import redacted

HOST = "hf_hosthosthost"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app whose host is signed in with the Hub in both ways there are, with secrets of other kinds around."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "hf").mkdir()
    (folder / "hf" / "token").write_text(HOST)
    with running(folder, HF_TOKEN=HOST, OAUTH_CLIENT_SECRET="oauthsecretoauth", SESSION_COOKIE="cookiecookie") as app:
        yield app


@pytest.fixture(scope="module")
def key(app: App, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The key of a finished run of that app."""
    folder = tmp_path_factory.mktemp("made")
    made(folder / "b", ("ants", "bees"))
    to_zip(folder / "b", folder / "b.zip")
    made_key = new_key()
    run = folder_of(app.data / "runs", made_key)
    assert run is not None
    run.parent.mkdir(parents=True, exist_ok=True)
    open_bundle(folder / "b.zip", run)
    return made_key


def asked(app: App, button: str, data: list[Any]) -> str:
    """All that the page is told after `button` was pressed with `data` as its inputs, whatever those are."""
    with urllib.request.urlopen(f"{app.url}config", timeout=10) as answer:
        page = json.load(answer)
    ids = {part["id"] for part in page["components"] if part["props"].get("elem_id") == button}
    event = next(d["id"] for d in page["dependencies"] if any(target[0] in ids for target in d["targets"]))
    session = uuid.uuid4().hex
    body = json.dumps({"data": data, "fn_index": event, "session_hash": session, "trigger_id": min(ids)}).encode()
    join = urllib.request.Request(f"{app.url}gradio_api/queue/join", body, {"content-type": "application/json"})
    told = ""
    try:
        urllib.request.urlopen(join, timeout=10).close()
        with urllib.request.urlopen(f"{app.url}gradio_api/queue/data?session_hash={session}", timeout=90) as stream:
            for line in stream:
                told += line.decode()
                if b"process_completed" in line or b"unexpected_error" in line:
                    break
    except urllib.error.HTTPError as error:
        told += error.read().decode()
    return told


def handed_out(app: App, key: str) -> str:
    """The name of the zip that a program gets of the run behind `key`."""
    call = f"{app.url}gradio_api/call/bundle"
    body = json.dumps({"data": [key, "bundle"]}).encode()
    with urllib.request.urlopen(urllib.request.Request(call, body, {"content-type": "application/json"})) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=60) as answer:
        return str(json.loads(answer.read().decode().rpartition("data: ")[2])[0]["orig_name"])


def pushing(key: str, token: Any, name: Any = "ants") -> list[Any]:
    """The inputs of the button Push: name, token, private, replace, licence, note, pictures, memory."""
    return [name, token, True, False, "apache-2.0", "", False, {"run": key}]


def forms(token: str) -> list[bytes]:
    """The token as it is, backwards, and within base64 wherever it may start there."""
    whole = [base64.b64encode(b"x" * n + token.encode())[8 if n else 0 : -4] for n in range(3)]
    return [token.encode(), token[::-1].encode(), *whole]


def descendants(pid: int) -> list[Path]:
    """The folders in /proc of all processes below `pid`."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, more = {pid}, {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more} - found
        found |= more
    return [Path("/proc", str(child)) for child in found - {pid}]


def test_case_78_83_and_89_after_a_push_the_token_is_nowhere_and_no_child_ever_saw_a_secret(app: App, key: str) -> None:
    seen: dict[str, bytes] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            for process in descendants(app.pid):
                try:
                    told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
                    seen[process.name] = max(seen.get(process.name, b""), told, key=len)
                except OSError:
                    continue

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        told = asked(app, "share-push", pushing(key, f" {GOOD}\n"))
    finally:
        over.set()
        watching.join()
    assert "alice/ants" in told and app.hub.repos["alice/ants"].files
    assert {token for _, _, token in app.hub.requests if token} == {GOOD}  # 83: not the host's
    assert len(seen) >= 2 and all(b"tl_core" in said for said in seen.values())
    secrets = (GOOD, HOST, "oauthsecretoauth", "cookiecookie")
    assert not [secret for secret in secrets for said in seen.values() if secret.encode() in said]
    zipped = handed_out(app, key)
    files = {file: file.read_bytes() for file in app.log.parent.rglob("*") if file.is_file()}
    # the queue and its journal, the log, the run, and what the page hands out are among them
    assert {"jobs.sqlite", "jobs.sqlite-wal", "log.txt", "report.json", zipped} <= {file.name for file in files}
    assert not [file for file, data in files.items() if any(form in data for form in forms(GOOD))]
    published = b"".join(app.hub.repos["alice/ants"].files.values())
    assert not any(form in published for form in forms(GOOD))


def test_case_83_without_a_token_nothing_is_sent_and_the_page_says_what_to_do(app: App, key: str) -> None:
    before = len(app.hub.requests)
    told = asked(app, "share-push", pushing(key, ""))
    assert "An access token of Hugging Face is needed" in told and len(app.hub.requests) == before


@pytest.mark.parametrize("token", [f"{GOOD}\0", f"{GOOD}\u00e9", f'"{GOOD}"', "hf_" + "a" * 10_000, f"{GOOD} {GOOD}"])
def test_case_80_a_token_that_cannot_be_one_is_neither_sent_nor_told(app: App, key: str, token: str) -> None:
    before = len(app.hub.requests)
    told = asked(app, "share-push", pushing(key, token))
    assert told and len(app.hub.requests) == before
    log = app.log.read_text()
    assert GOOD not in told + log and "a" * 100 not in log and "Traceback" not in log


@pytest.mark.parametrize(
    "data",
    [
        [GOOD],
        [],
        ["x", GOOD, True],
        [*pushing("", GOOD), GOOD, GOOD],
        pushing("", [GOOD]),
        pushing("", {"token": GOOD}),
        pushing("", GOOD, name={"name": GOOD}),
        ["x", GOOD, GOOD, GOOD, GOOD, GOOD, GOOD, GOOD],
    ],
    ids=range(8),
)
def test_case_81_inputs_of_the_wrong_number_or_kind_do_not_get_it_into_a_log(app: App, data: list[Any]) -> None:
    assert asked(app, "share-push", data)
    time.sleep(0.2)  # for what is written after the answer
    assert GOOD not in app.log.read_text()


def test_case_82_what_fails_inside_is_told_without_its_words(app: App) -> None:
    told = asked(app, "share-push", pushing("", GOOD, name=["x"]))
    assert "Traceback" not in told and "site-packages" not in told and 'File "' not in told


def test_case_88_a_host_that_is_signed_in_is_not_shown_to_visitors(app: App) -> None:
    with urllib.request.urlopen(app.url, timeout=10) as answer:
        page = answer.read().decode()
    assert "LoginButton" not in page and "loginbutton" not in page and HOST not in page
    assert not [path for _, path, token in app.hub.requests if token == HOST]


def test_case_87_a_space_asks_for_no_more_than_it_needs() -> None:
    """`contribute-repos` is the least there is that lets an app make a model and no more of the visitor's."""
    head = yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert head["hf_oauth"] is True and head["hf_oauth_scopes"] == ["contribute-repos"]


# the last line of defence


@pytest.mark.parametrize(
    "text",
    [
        f"Illegal header value b'Bearer {GOOD}\\n'",
        f"token={SIGNED_IN}&x=1",
        f"Authorization: Bearer {SIGNED_IN}",
        "authorization: bearer eyJhbGciOiJIUzI1NiJ9.e30.abc",
        f"{{'token': '{GOOD}'}}",
        f"https://user:{GOOD}@huggingface.co",
    ],
)
def test_tokens_are_struck_out_wherever_they_stand(text: str) -> None:
    clean = redacted(text)
    assert "hf_\u2026" in clean and redacted(clean) == clean
    assert not any(secret in clean for secret in (GOOD[3:], SIGNED_IN[9:], "eyJ", "nature"))


def test_other_text_stays_as_it_is() -> None:
    text = "hf_hub_download of hf-hub:alice/x with hf_xet 1.8 by the bearer; class \u201chf_cat\u201d, hf://alice/x"
    assert redacted(text) == text


def test_no_logger_no_traceback_and_no_thread_tells_a_token(tmp_path: Path) -> None:
    """Each way that words leave a process, in one of its own."""
    code = (
        "import logging, sys, threading, traceback\n"
        "from tl_core import redaction\n"
        "redaction.install(); redaction.install()\n"
        "token = sys.stdin.read()\n"
        "file = logging.FileHandler(sys.argv[1]); logging.getLogger('a').addHandler(file)\n"
        "logging.getLogger('a').warning('with %s', token)\n"
        "logging.getLogger('a').warning('%d', token)\n"
        "try: raise ValueError(f'Bearer {token}')\n"
        "except ValueError: logging.getLogger('a').exception('failed'); traceback.print_exc()\n"
        "thread = threading.Thread(target=lambda: {}[token]); thread.start(); thread.join()\n"
        "print('plain', token, file=sys.stderr); sys.stderr.writelines([token])\n"
        "raise RuntimeError(token)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    done = subprocess.run(command, cwd=ROOT, input=GOOD, capture_output=True, text=True, check=False)
    for told in (done.stderr, (tmp_path / "log").read_text()):
        assert GOOD not in told and told.count("hf_\u2026") >= 2
    assert done.returncode == 1 and done.stderr.count("Traceback") >= 3


def test_a_training_worker_tells_no_token_either(tmp_path: Path) -> None:
    environment = {**os.environ, "TL_DATA_DIR": str(tmp_path), "TL_MAX_UPLOAD": GOOD}
    command = [sys.executable, "-m", "tl_core.jobs.worker", "name"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr and "hf_\u2026" in done.stderr and GOOD not in done.stderr


FORGED = "a.jpg\n2026-01-01 transfer_lab.page all is well\r\x1b[2K\x1b]0;x\x07\u202egnp\u2028next \x9b31m"


def told_by_a_logger(tmp_path: Path, *, failing: bool) -> str:
    """What a file of records holds after one about a hostile name, in the form that our processes use."""
    file = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    logger, before = logging.getLogger("forging"), logging.getLogRecordFactory()
    logger.addHandler(file)
    redaction.install()
    try:
        if not failing:
            logger.warning("could not read %s of 100%% (%s)", FORGED, "plain")
            logger.warning(FORGED)
        else:
            try:
                raise ValueError(FORGED)
            except ValueError:
                logger.exception("bug 12ab in %s", "take")
    finally:
        logging.setLogRecordFactory(before)
        logger.removeHandler(file)
        file.close()
    return (tmp_path / "log").read_text(encoding="utf-8")


@pytest.mark.parametrize("failing", [False, True])
def test_case_134_a_name_cannot_forge_a_line_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # `install` wraps it for good
    told = told_by_a_logger(tmp_path, failing=failing)
    begun = [line for line in told.split("\n") if line and not line.startswith("  ")]
    assert len(begun) == (1 if failing else 2) and all(" forging " in line for line in begun)
    assert not [c for c in told if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u2028")]
    assert "\\x1b[2K" in told and "\\u202egnp" in told and "all is well" in told
    assert ("Traceback" in told) == failing and ("of 100% (plain)" in told) != failing


def test_a_stream_stays_what_it_was() -> None:
    inner = io.StringIO()
    stream: Any = redaction.RedactingStream(inner)
    assert stream.write("abc") == 3 and stream.isatty() is False
    print(GOOD, file=stream, flush=True)
    assert inner.getvalue() == "abchf_\u2026\n"


def test_the_command_line_never_tells_its_token(app: App, tmp_path: Path) -> None:
    made(tmp_path / "b", ("ants", "bees"))
    (tmp_path / "token").write_text(f"{GOOD}\0\n")
    environment = {**os.environ, "HF_ENDPOINT": app.hub.url}
    command = [
        sys.executable,
        "-m",
        "tl_core",
        "push",
        str(tmp_path / "b"),
        "x",
        "--token-file",
        str(tmp_path / "token"),
    ]
    told = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 2 and "not a Hugging Face access token" in told.stderr
    assert GOOD not in told.stdout + told.stderr
