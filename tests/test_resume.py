"""Runs that are killed, sliced, or shared between processes end with the weights of one that was left alone: real
processes throughout. The task is one that fine-tuning wins (what moved between bright and dark), at 64 pixels."""

import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from tests.conftest import Zipper
from tl_core.data.imageset import ImageSet
from tl_core.events import EpochEnd, Event, Finished, Notice, Paused, Planned, Progress, Ready, from_line
from tl_core.jobs.runs import EventLog, Request, RunFolder, new_key
from tl_core.jobs.worker import take
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Plan, Wishes, make_plan
from tl_core.training.run import after, train

ROOT = Path(__file__).parents[1]
OPTIONS = ["--strategy", "all", "--epochs", "12", "--image-size", "64", "--flips", "off"]


def drawing(label: int, seed: int) -> bytes:
    """A tiny mark on noise, left or right of the middle: hard for frozen features, easy for trained ones."""
    rng = random.Random(f"{label} {seed}")
    noise = np.random.default_rng([label, seed]).normal(128, 60, (96, 96, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(noise)
    draw, x = ImageDraw.Draw(image), rng.randint(8, 34) + 46 * label
    y = rng.randint(10, 80)
    draw.ellipse((x, y, x + 13, y + 13), fill=(190, rng.randint(60, 160), 90))
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def drawn(path: Path, seeds: range) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for label, name in enumerate(("left", "right")):
            for seed in seeds:
                archive.writestr(f"{name}/{seed:03}.png", drawing(label, seed))
    return path


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("upload") / "sides.zip", range(60))


def command(out: Path, *more: str, launcher: tuple[str, ...] = ()) -> list[str]:
    begun = () if "--resume" in more else ("--out", str(out), *OPTIONS)
    return [sys.executable, *launcher, "-m", "tl_core", "train", *more, *begun, "--events"]


def events_of(text: str) -> list[Event]:
    found = []
    for line in text.splitlines():
        try:
            found.append(from_line(line))
        except ValueError:
            continue
    return found


@pytest.fixture(scope="module")
def straight(upload: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run by the command line that was left alone; its recipe was settled by its own probe."""
    out = tmp_path_factory.mktemp("straight")
    os.environ["TL_DATA_DIR"] = str(out / "data")
    done = subprocess.run(command(out, str(upload)), cwd=ROOT, capture_output=True, text=True, check=True)
    kinds = [type(event) for event in events_of(done.stdout)]
    assert {Planned, Ready, EpochEnd, Finished} <= set(kinds) and kinds[-1] is Finished
    record = json.loads((out / "report.json").read_text())["training"]
    assert record["strategy"] == "all" and record["share"] > 0, "the fine-tuned model must win, or nothing is tested"
    solved, won = record["validation"]["solved"], record["validation"][f"{record['share']:.0%} fine-tuned"]
    assert won["accuracy"] >= solved["accuracy"] and won["loss"] < solved["loss"]
    assert not (out / "checkpoints").exists()
    return out


def weights(out: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(out / "bundle" / "model.safetensors"))


def same(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return all(torch.equal(a[name], b[name]) for name in a)


def settled_like(straight: Path, out: Path) -> None:
    """Take the decisions that hang on this moment's speed from the straight run, so that the recipes are one."""
    journal = json.loads((straight / "journal.json").read_text())
    out.mkdir(parents=True, exist_ok=True)
    kept = {name: journal[name] for name in ("plan", "engine") if name in journal}
    (out / "journal.json").write_text(json.dumps(kept))


def plan_of(images: ImageSet, settings: Settings) -> Plan:
    wishes = Wishes(strategy="all", epochs=12, image_size=64, flips="off")
    return make_plan(wishes, Facts.of(images), local=[EMBEDDED], machine=Machine(settings))


@pytest.mark.slow
def test_case_119_killed_again_and_again_and_resumed_it_ends_with_the_same_weights(
    upload: Path, straight: Path, tmp_path: Path
) -> None:
    """SECURITY 4.5: killed -9 at whatever it is doing, from the first second to the last."""
    out = tmp_path / "run"
    process = subprocess.Popen(command(out, str(upload)), cwd=ROOT, stdout=subprocess.DEVNULL)
    while not (out / "plan.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    settled_like(straight, out)
    for moment in (3.0, 4.5, 5.5, 6.0, 7.0):
        process = subprocess.Popen(command(out, "--resume", str(out)), cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            process.wait(timeout=moment)
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    done = subprocess.run(command(out, "--resume", str(out)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert same(out, straight)


@pytest.mark.slow
def test_case_121_slices_give_the_same_weights_as_one_go(
    upload: Path, straight: Path, read_set: Callable[[Path], ImageSet], settings: Settings, tmp_path: Path
) -> None:
    images, out = read_set(upload), tmp_path / "run"
    settled_like(straight, out)
    plan, slices, notices = plan_of(images, settings), 0, []
    while True:
        events = list(train(images, out, plan=plan, settings=settings, should_pause=after(2.0)))
        slices += 1
        notices += [e.code for e in events if isinstance(e, Notice)]
        if not isinstance(events[-1], Paused):
            break
        assert slices < 60, "every slice must get on"
    assert isinstance(events[-1], Finished) and slices >= 3
    assert same(out, straight)


@pytest.mark.slow
def test_stopped_on_the_page_it_keeps_the_best_and_goes_on_to_the_same_end(
    upload: Path, straight: Path, read_set: Callable[[Path], ImageSet], settings: Settings
) -> None:
    images = read_set(upload)
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), plan_of(images, settings)))
    settled_like(straight, run.path)
    seen: list[Event] = []
    honest = EventLog.append

    def watch(self: EventLog, event: Event) -> None:
        honest(self, event)
        seen.append(event)
        if isinstance(event, Progress) and event.stage == "tuning" and event.done >= 4:
            run.ask_to_stop()

    patch = pytest.MonkeyPatch()
    patch.setattr(EventLog, "append", watch)
    assert take(run, settings) == "over"
    patch.undo()
    last = EventLog(run.path).new()[-1]
    assert isinstance(last, Finished) and last.reason == "stopped" and run.over()
    assert json.loads((run.path / "report.json").read_text())["training"]["stopped"]
    assert run.open_again()
    assert take(run, settings) == "over"
    last = EventLog(run.path).new()[-1]
    assert isinstance(last, Finished) and last.reason == "completed"
    assert same(run.path, straight)


@pytest.mark.slow
@pytest.mark.parametrize("why", ["time is up", "stop was asked for"])
def test_taken_up_again_only_to_be_stopped_it_keeps_what_tuning_had_found(
    why: str, upload: Path, straight: Path, read_set: Callable[[Path], ImageSet], settings: Settings
) -> None:
    images = read_set(upload)
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), plan_of(images, settings)))
    settled_like(straight, run.path)

    def tuned() -> bool:
        seen = EventLog(run.path).new()
        return any(isinstance(event, EpochEnd) and event.epoch >= 8 for event in seen)

    assert take(run, settings, should_pause=tuned) == "paused"
    if why == "time is up":
        run.note_worked(settings.max_run_seconds)
    else:
        run.ask_to_stop()
    assert take(run, settings) == "over"
    last = EventLog(run.path).new()[-1]
    assert isinstance(last, Finished) and last.reason == "stopped"
    assert json.loads((run.path / "report.json").read_text())["training"]["share"] > 0, "of the tuned weights"


@pytest.mark.slow
def test_going_on_from_a_tuned_model_is_no_worse_than_starting_afresh_and_can_be_left_too(
    straight: Path, read_set: Callable[[Path], ImageSet], settings: Settings, tmp_path: Path
) -> None:
    """On fewer and other pictures of the same task: what was learned before is still there."""
    images = read_set(drawn(tmp_path / "more.zip", range(100, 130)))
    start = str(straight / "bundle")

    def scored(out: str, *, seconds: float = math.inf, **wishes: Any) -> float:
        wished = Wishes(backbone="built_in", flips="off", **wishes)
        plan = make_plan(wished, Facts.of(images), local=[EMBEDDED], machine=Machine(settings))
        for slices in range(60):
            *_, last = train(images, tmp_path / out, plan=plan, settings=settings, should_pause=after(seconds))
            if isinstance(last, Finished):
                assert seconds == math.inf or slices >= 1
                return last.accuracy
        raise AssertionError("every slice must get on")

    assert scored("frozen", start_from=start) >= max(scored("afresh"), 0.75)
    tuned: dict[str, Any] = {"strategy": "all", "epochs": 6, "image_size": 64, "start_from": start}
    in_one_go = scored("tuned", **tuned)
    settled_like(tmp_path / "tuned", tmp_path / "sliced")
    assert scored("sliced", seconds=1.5, **tuned) == in_one_go >= 0.75
    assert same(tmp_path / "sliced", tmp_path / "tuned")
    record = json.loads((tmp_path / "tuned" / "bundle" / "bundle.json").read_text())
    assert record["class_names"] == ["left", "right"] and record["training"]["went_on"]
    assert str(straight) not in json.dumps(record), "where it lies is nobody else's business"


@pytest.mark.slow
def test_two_processes_give_the_result_of_one_to_rounding(upload: Path, straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    first = subprocess.run(
        command(tmp_path / "set only", str(upload)), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert first.returncode == 0
    (tmp_path / "set only").rename(out)
    for name in ("report.json", "journal.json"):
        (out / name).unlink()
    settled_like(straight, out)
    # torchrun takes the module itself: without the interpreter's own -m
    arguments = command(out, "--resume", str(out), launcher=launcher)
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    events = events_of(done.stdout)
    assert sum(isinstance(event, Finished) for event in events) == 1, "only the first process speaks"
    one, two = weights(straight), weights(out)
    for name, value in one.items():
        if value.is_floating_point():
            assert (value - two[name]).abs().max() <= 2e-2 * value.abs().max() + 1e-6, name
    scores = [json.loads((f / "report.json").read_text())["evaluation"]["accuracy"] for f in (straight, out)]
    assert scores[0] == pytest.approx(scores[1], abs=0.05)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again_by_resume(straight: Path) -> None:
    before, started = weights(straight), time.monotonic()
    done = subprocess.run(command(straight, "--resume", str(straight)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and time.monotonic() - started < 30
    after = weights(straight)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_resume_of_something_else_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tl_core", "train", "--resume", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "a folder that `train --out` made is needed" in done.stderr


def test_slices_too_short_for_any_stage_still_come_to_an_end(
    make_zip: Zipper, read_set: Callable[[Path], ImageSet], settings: Settings, tmp_path: Path
) -> None:
    """Else a Space would borrow GPU time again and again for the same beginning."""
    images = read_set(make_zip({"star": 12, "circle": 12}))
    plan = Plan(Wishes(), EMBEDDED.id, "auto", 1.0)
    for _ in range(8):
        *_, last = train(images, tmp_path / "run", plan=plan, settings=settings, should_pause=lambda: True)
        if not isinstance(last, Paused):
            break
    assert isinstance(last, Finished) and last.reason == "completed"
