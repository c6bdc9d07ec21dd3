"""The whole app on the real `spaces` package with a stand-in device API: slices, a stop, a refusal, the processor."""

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.browser import NEEDS_BROWSER, ROOT, free_port
from tests.conftest import picture
from tl_core.data.imageset import ImageSet
from tl_core.errors import GpuInterruptedError, GpuQuotaError
from tl_core.events import Failed, Finished, Progress
from tl_core.jobs.recovery import job_of
from tl_core.jobs.runs import EventLog, Request, RunFolder, new_key
from tl_core.jobs.slices import SLICED, asked_seconds, drive, drive_in_turn, release_orphans, train_slice
from tl_core.jobs.store import FILE, Store
from tl_core.jobs.worker import trained
from tl_core.models.catalogue import EMBEDDED
from tl_core.review import review
from tl_core.settings import Settings
from tl_core.training.journal import Journal
from tl_core.training.plan import Facts, Machine, Plan, Wishes, make_plan
from tl_core.training.run import JOURNAL
from tl_ui.words import say
from tl_ui.zerogpu import account_for

SLICE = "3"  # seconds


@dataclass
class Space:
    """The running app, its data, and the folder that controls its device API."""

    url: str
    control: Path
    pid: int

    def slices(self) -> list[dict[str, str]]:
        """What was asked of the device API for every slice so far."""
        lines = [json.loads(line) for line in (self.control / "log").read_text().splitlines()]
        return [asked for path, asked in lines if path == "/schedule"]

    def lend(self, *, nothing: str = "") -> None:
        """Lend GPUs from here on, or lend none: "refuse" for want of quota, "busy" for want of GPUs."""
        for name in ("refuse", "busy"):
            (self.control / name).unlink(missing_ok=True)
        if nothing:
            (self.control / nothing).touch()

    def kill_slices(self) -> int:
        """Kill the processes that slices run in; how many there were."""
        own = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        children = Path(f"/proc/{self.pid}/task").glob("*/children")
        found = [int(child) for listed in children for child in listed.read_text().split()]
        slices = [child for child in found if Path(f"/proc/{child}/cmdline").read_bytes() == own]
        for child in slices:
            os.kill(child, signal.SIGKILL)
        return len(slices)


def waited(true: Callable[[], bool]) -> None:
    """Until it is true; fails after a minute."""
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    pytest.importorskip("spaces", reason="the package of ZeroGPU Spaces is not installed")
    folder = tmp_path_factory.mktemp("space")
    (folder / "control").mkdir()
    environment = {
        **os.environ,
        "TL_DATA_DIR": str(folder / "data"),
        "TL_GPU_SLICE_SECONDS": SLICE,
        "HF_HOME": str(folder / "hf"),
        "TORCH_HOME": str(folder / "torch"),
        "HOME": str(folder),
    }
    port = free_port()
    command = [sys.executable, "-m", "tests.zerogpu_stand_in", str(folder / "control"), "app.py", "--port", str(port)]
    with (folder / "log.txt").open("w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}/"
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=1).close()
            break
        except OSError:
            assert process.poll() is None, (folder / "log.txt").read_text()
            time.sleep(0.2)
    yield Space(url, folder / "control", process.pid)
    process.terminate()
    try:
        assert process.wait(timeout=10) == 0, (folder / "log.txt").read_text()[-3_000:]
    finally:  # what the library of ZeroGPU forked for a slice, which a Space's container ends
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def opened(browser: Any, space: Space) -> Any:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(space.url)
    page.click("#example-shapes")
    page.click("#to-train")
    page.wait_for_selector("#estimate:has-text('daily GPU time')")
    return page


@pytest.mark.browser
@pytest.mark.skipif(NEEDS_BROWSER[1].args[0], reason="no chromium on this machine")
@pytest.mark.slow
def test_a_visitor_trains_stops_is_refused_and_goes_on(browser: Any, space: Space) -> None:
    page = opened(browser, space)
    page.click("#effort label:has-text('Balanced')")
    page.click("#advanced button")
    page.fill("#epochs input", "3")
    page.click("#start")
    page.wait_for_selector("#progress:has-text('Round')")
    assert {asked["durationSeconds"] for asked in space.slices()} == {SLICE}, space.slices()

    before = len(space.slices())
    assert space.kill_slices()  # as when one takes too long: another goes on
    waited(lambda: len(space.slices()) > before)
    page.wait_for_selector("#progress:has-text('Round')")

    page.click("#stop")
    page.wait_for_selector("#to-results:visible")
    page.wait_for_selector("#go-on:visible")

    space.lend(nothing="refuse")
    page.click("#go-on")
    page.wait_for_selector("#progress:has-text('GPU minutes for today are used up')")
    page.reload()  # nothing of it is lost with the page
    page.wait_for_selector("#on-processor:visible")
    page.wait_for_selector("#to-results:visible")

    space.lend(nothing="busy")
    page.click("#go-on")
    page.wait_for_selector("#progress:has-text('No GPU is free')")

    space.lend()
    page.click("#go-on")
    page.wait_for_selector("#progress:has-text('Done in')", timeout=180_000)
    assert len(space.slices()) >= 4
    page.context.close()


@pytest.mark.browser
@pytest.mark.skipif(NEEDS_BROWSER[1].args[0], reason="no chromium on this machine")
@pytest.mark.slow
def test_without_quota_the_processor_goes_on_and_answers_cost_none(browser: Any, space: Space, tmp_path: Path) -> None:
    page = opened(browser, space)
    space.lend(nothing="refuse")
    page.click("#start")
    page.wait_for_selector("#on-processor:visible")
    asked = len(space.slices())
    page.click("#on-processor")
    page.wait_for_selector("#progress:has-text('Done in')", timeout=120_000)
    page.click("#to-results")
    page.click("#to-use")
    page.wait_for_selector("#download:visible")
    (tmp_path / "one.png").write_bytes(picture(1, ending="png"))
    page.set_input_files("#one-upload input[type=file]", str(tmp_path / "one.png"))
    page.wait_for_selector("#one-answer:has-text('%')")
    assert len(space.slices()) == asked
    page.context.close()

    space.lend()  # a slice is forked from a process that has computed
    other = opened(browser, space)
    other.click("#start")
    other.wait_for_selector("#progress:has-text('Done in')", timeout=120_000)
    assert len(space.slices()) > asked
    other.context.close()


# without the package: what a slice is


@pytest.fixture
def run(settings: Settings, make_zip: Any, read_set: Any) -> RunFolder:
    images: ImageSet = read_set(make_zip({"stars": 12, "circles": 12}))
    list(review(images.folder, settings=settings))
    wishes = Wishes(effort="balanced", epochs=6, image_size=128)
    plan = make_plan(wishes, Facts.of(images), local=(EMBEDDED,), machine=Machine(settings))
    return RunFolder.create(settings, new_key(), Request(str(images.folder), plan, SLICED))


def enter(store: Store, run: RunFolder) -> None:
    """Put the run in the queue."""
    job = job_of(run)
    assert job is not None
    store.submit(job)


def again(run: RunFolder, settings: Settings) -> RunFolder:
    return RunFolder.create(settings, new_key(), run.request())


@pytest.mark.slow
def test_many_slices_make_the_model_that_one_makes(run: RunFolder, settings: Settings) -> None:
    whole = again(run, settings)
    lengths = itertools.chain(itertools.repeat(0.01, 6), itertools.repeat(5.0))
    slices = list(itertools.takewhile(lambda length: train_slice(str(run.path), length, settings) == "paused", lengths))
    assert train_slice(str(whole.path), 10_000, settings) == "over"
    assert len(slices) >= 3  # and the one that was the last
    ends = [EventLog(folder.path).new()[-1] for folder in (run, whole)]
    assert all(isinstance(end, Finished) and end.reason == "completed" for end in ends)
    one, many = (load_file(folder.path / "bundle" / "model.safetensors") for folder in (whole, run))
    assert all(bool((one[name] == many[name]).all()) for name in one)


@pytest.mark.slow
def test_going_on_on_another_device_keeps_what_was_learned(
    run: RunFolder, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tl_core.training.tuning.precisions", lambda device: ["bf16"])  # as on a GPU
    while not list(run.path.glob("checkpoints/held-*")):
        assert train_slice(str(run.path), 0.5, settings) == "paused"
    reached = max(int(folder.name.removeprefix("held-")) for folder in run.path.glob("checkpoints/held-*"))
    assert reached and Plan.from_dict(Journal(run.path / JOURNAL).get("plan")).recipe.precision == "bf16"  # type: ignore[union-attr]
    monkeypatch.undo()

    assert run.open_again("cpu")
    told = list(trained(run, settings, device="cpu"))
    steps = [event.done for event in told if isinstance(event, Progress) and event.stage == "tuning"]
    assert isinstance(told[-1], Finished) and steps[0] > reached


def test_slices_ask_for_what_is_left_and_longer_after_being_cut_off(run: RunFolder, settings: Settings) -> None:
    asked: list[int] = []
    left = 20

    def lent(path: str, seconds: int) -> Any:
        asked.append(seconds)
        if len(asked) == 2:
            raise GpuInterruptedError
        if len(asked) > 2 and seconds > left:
            raise GpuQuotaError
        return "paused" if len(asked) < 8 else "over"

    drive(run, lent, settings)
    assert asked[0] <= settings.gpu_slice_seconds and asked[2] > asked[1]
    assert all(seconds <= 2 * settings.gpu_slice_seconds for seconds in asked)
    assert asked[-1] <= left and not run.over()


def test_a_short_run_asks_for_little_and_says_which_account_has_so_much(run: RunFolder, settings: Settings) -> None:
    plans = [replace(run.request().plan, seconds=seconds) for seconds in (1.0, 40.0, 100.0, 500.0, 5_000.0)]
    asked = [asked_seconds(plan) for plan in plans]
    assert asked == sorted(asked) and asked[0] < settings.gpu_slice_seconds
    assert [account_for(plan) for plan in plans] == ["anonymous", "anonymous", "free", "pro", "none"]
    for account in {account_for(plan) for plan in plans}:
        assert say("en", f"train.quota.{account}") != say("zh", f"train.quota.{account}")


def test_a_slice_that_dies_is_tried_again_and_a_refusal_is_the_last_word(run: RunFolder, settings: Settings) -> None:
    tries: list[int] = []

    def dying(path: str, seconds: int) -> Any:
        tries.append(seconds)
        raise GpuInterruptedError

    drive(run, dying, settings)
    assert len(tries) == 3 and isinstance(EventLog(run.path).new()[-1], Failed)

    def refused(path: str, seconds: int) -> Any:
        raise GpuQuotaError

    other = again(run, settings)
    drive(other, refused, settings)
    last = EventLog(other.path).new()[-1]
    assert isinstance(last, Failed) and last.code == "gpu_quota"
    assert other.open_again("cpu")
    assert other.request().device == "cpu" and not other.over()


def test_a_run_whose_driver_died_can_be_gone_on_with(run: RunFolder, settings: Settings) -> None:
    store = Store(settings)
    enter(store, run)
    assert store.take("gone", only=run.path.name) is not None
    release_orphans(settings, store)
    last = EventLog(run.path).new()[-1]
    assert isinstance(last, Failed) and last.code == "gpu_interrupted"
    waiting = again(run, settings)  # for a driver that never came to it
    enter(store, waiting)
    release_orphans(settings, store)
    assert waiting.over() and store.waiting() == store.running() == []


def test_a_borrowed_gpu_is_asked_for_when_the_owners_turn_has_come(run: RunFolder, settings: Settings) -> None:
    store, other, asked = Store(settings), again(run, settings), list[str]()
    enter(store, run)
    enter(store, other)

    def borrowed(path: str, seconds: int) -> Any:
        asked.append(Path(path).name)
        assert [job.id for job in store.running()] == asked[-1:], "one at a time, as they have one owner"
        return "over"

    work = [(one, borrowed, settings, store, f"b{one.path.name}") for one in (other, run)]
    threads = [threading.Thread(target=drive_in_turn, args=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(asked) == sorted([run.path.name, other.path.name]) and store.running() == []


def test_a_run_that_was_done_before_its_page_died_stays_done(run: RunFolder, settings: Settings) -> None:
    store = Store(settings)
    enter(store, run)
    assert store.take("gone", only=run.path.name) is not None
    done = Finished("bundle", 1.0, "completed", {})
    EventLog(run.path).append(done)
    release_orphans(settings, store)
    assert EventLog(run.path).new() == [done] and store.running() == []


def test_the_queue_hears_of_the_end_when_it_answers_again(
    run: RunFolder, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tl_core.jobs.store._BUSY_SECONDS", 0.1)
    monkeypatch.setattr("tl_core.jobs.slices._PATIENCE", 0.1)
    store, log = Store(settings), run.path / "events.jsonl"
    enter(store, run)
    other = sqlite3.connect(settings.data_dir / FILE, check_same_thread=False)

    def lent(path: str, seconds: int) -> Any:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.6, other.rollback).start()
        log.mkdir()  # nor can anything be written about the run
        threading.Timer(0.3, log.rmdir).start()
        raise GpuQuotaError

    drive_in_turn(run, lent, settings, store, "b")
    assert run.over() and store.running() == []
