"""The whole app on the real `spaces` package with a stand-in device API: slices, a stop, a refusal, the processor."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.browser import NEEDS_BROWSER, ROOT, free_port
from tl_core.data.imageset import ImageSet
from tl_core.errors import GpuInterruptedError, GpuQuotaError
from tl_core.events import Failed, Finished
from tl_core.jobs.runs import EventLog, Request, RunFolder, new_key
from tl_core.jobs.slices import SLICED, drive, release_orphans, train_slice
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Wishes, make_plan


@dataclass
class Space:
    """The running app, its data, and the folder that controls its device API."""

    url: str
    data: Path
    control: Path

    def slices(self) -> list[dict[str, str]]:
        """What was asked of the device API for every slice so far."""
        lines = [json.loads(line) for line in (self.control / "log").read_text().splitlines()]
        return [asked for path, asked in lines if path == "/schedule"]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    pytest.importorskip("spaces", reason="the package of ZeroGPU Spaces is not installed")
    folder = tmp_path_factory.mktemp("space")
    (folder / "control").mkdir()
    environment = {
        **os.environ,
        "TL_DATA_DIR": str(folder / "data"),
        "TL_GPU_SLICE_SECONDS": "2",
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
    yield Space(url, folder / "data", folder / "control")
    process.terminate()
    assert process.wait(timeout=10) == 0, (folder / "log.txt").read_text()[-3_000:]


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
def test_a_visitor_trains_stops_is_refused_and_goes_on(browser: Any, space: Space) -> None:
    page = opened(browser, space)
    page.click("#effort label:has-text('Balanced')")
    page.click("#advanced button")
    page.fill("#epochs input", "5")
    page.click("#start")
    page.wait_for_selector("#progress:has-text('Round')")
    assert {asked["durationSeconds"] for asked in space.slices()} == {"2"}, space.slices()

    page.click("#stop")
    page.wait_for_selector("#to-results:visible")
    page.wait_for_selector("#go-on:visible")
    before = len(space.slices())

    (space.control / "refuse").touch()
    page.click("#go-on")
    page.wait_for_selector("#progress:has-text('GPU minutes for today are used up')")
    assert page.is_visible("#to-results") or page.is_visible("#go-on")
    page.reload()  # nothing of it is lost with the page
    page.wait_for_selector("#on-processor:visible")
    assert len(space.slices()) > before

    (space.control / "refuse").unlink()
    page.click("#go-on")
    page.wait_for_selector("#progress:has-text('Done in')", timeout=180_000)
    assert len(space.slices()) >= 4
    page.context.close()


@pytest.mark.browser
@pytest.mark.skipif(NEEDS_BROWSER[1].args[0], reason="no chromium on this machine")
def test_without_quota_the_processor_goes_on_by_itself(browser: Any, space: Space) -> None:
    page = opened(browser, space)
    (space.control / "refuse").touch()
    page.click("#start")
    page.wait_for_selector("#on-processor:visible")
    asked = len(space.slices())
    page.click("#on-processor")
    page.wait_for_selector("#progress:has-text('Done in')", timeout=120_000)
    assert len(space.slices()) == asked
    (space.control / "refuse").unlink()
    page.click("#to-results")
    page.click("#to-use")
    page.wait_for_selector("#download:visible")
    page.context.close()


# without the package: what a slice is


@pytest.fixture
def run(settings: Settings, make_zip: Any, read_set: Any) -> RunFolder:
    images: ImageSet = read_set(make_zip({"stars": 16, "circles": 16}))
    wishes = Wishes(effort="balanced", epochs=8)
    plan = make_plan(wishes, Facts.of(images), local=(EMBEDDED,), machine=Machine(settings))
    return RunFolder.create(settings, new_key(), Request(str(images.folder), plan, SLICED))


def again(run: RunFolder, settings: Settings) -> RunFolder:
    return RunFolder.create(settings, new_key(), run.request())


def test_many_slices_make_the_model_that_one_makes(run: RunFolder, settings: Settings) -> None:
    whole, count = again(run, settings), 0
    while train_slice(str(run.path), 0.1, settings) == "paused":
        count += 1
    assert train_slice(str(whole.path), 10_000, settings) == "over"
    assert count >= 3
    ends = [EventLog(folder.path).new()[-1] for folder in (run, whole)]
    assert all(isinstance(end, Finished) and end.reason == "completed" for end in ends)
    one, many = (load_file(folder.path / "bundle" / "model.safetensors") for folder in (whole, run))
    assert all(bool((one[name] == many[name]).all()) for name in one)


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
    other.queue_again("cpu")
    assert other.request().device == "cpu" and not other.claimed() and not other.over()


def test_a_run_whose_driver_died_can_be_gone_on_with(run: RunFolder, settings: Settings) -> None:
    assert run.claim()
    run.release()  # as the kernel does for a process that is gone
    release_orphans(settings)
    last = EventLog(run.path).new()[-1]
    assert isinstance(last, Failed) and last.code == "gpu_interrupted"
