"""The command line as a person types it: real processes, exit statuses, one sentence for a mistake."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import Zipper, full_disk, picture, shared
from tests.hub_stand_in import GOOD
from tests.jobs_stand_in import run_here, serve_jobs
from tl_core.bundle.predictor import Predictor
from tl_core.cli.commands import main
from tl_core.events import Failed, Finished, from_line

ROOT = Path(__file__).parents[1]


def cli(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tl_core", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=180, **options)


Here = Callable[..., tuple[int, str]]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """The command line within this process, for what ends before anything heavy: its status, and what it says."""
    monkeypatch.chdir(ROOT)

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        return main([str(argument) for argument in arguments]), capsys.readouterr().err

    return run


def last_json(result: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_inspect_says_what_was_understood(make_zip: Zipper) -> None:
    result = cli("inspect", make_zip({"cats": 12, "dogs": 11, "dogs/notes.txt": b"x"}), "--json")
    assert "23 pictures in 2 classes" in result.stdout
    assert "dogs/notes.txt: not a picture of a kind that can be read" in result.stdout
    assert last_json(result)["classes"] == {"cats": 12, "dogs": 11}


def test_train_then_predict(make_zip: Zipper, tmp_path: Path) -> None:
    upload = make_zip({"star": 25, "circle": 25})
    record = last_json(cli("train", upload, "--out", tmp_path / "out", "--json"))
    assert record["images"] == 50 and record["backbone"] == "built_in" and record["skipped"] == []
    assert record["interval"][0] <= record["accuracy"] <= record["interval"][1]
    assert set(record["seconds"]) >= {"backbone", "features", "solving", "saving"}
    assert Path(record["bundle"]) == tmp_path / "out" / "bundle"

    (tmp_path / "star.jpg").write_bytes(picture(500, shape="star"))
    (tmp_path / "=1+1.txt").write_bytes(b"no picture")
    files = [tmp_path / "star.jpg", tmp_path / "=1+1.txt"]
    answers = last_json(cli("predict", record["bundle"], *files, "--csv", tmp_path / "a.csv", "--json"))["predictions"]
    assert answers[0]["label"] == "star" and 0.5 < answers[0]["confidence"] <= 1
    assert sum(answers[0]["ranking"].values()) == pytest.approx(1, abs=1e-5)
    assert answers[1]["problem"] == "not a picture of a kind that can be read"
    assert cli("predict", record["bundle"], files[1]).returncode == 2
    assert (tmp_path / "a.csv").read_text(encoding="utf-8-sig").count("\n") == 3


@pytest.mark.slow
def test_doctor_knows_this_machine() -> None:
    record = last_json(cli("doctor", "--json"))
    assert record["pictures a second (built-in backbone)"] > 1
    assert any(line.startswith("embedded:") for line in record["backbones"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "nowhere.zip", "--out", "OUT"], "no file or folder “nowhere.zip”"),
        (["train", "ZIP", "--out", "OUT", "--backbone", "resnet1"], "Did you mean “resnet18”"),
        (["train", "ZIP", "--out", "OUT", "--device", "tpu"], "--device: found tpu"),
        (["predict", "nowhere", "app.py"], "is not a model made here"),
        (["predict", "tests", "nowhere.jpg"], "no file “nowhere.jpg”"),
        (["inspect", "app.py"], "“app.py” is not a zip file"),
        (["train", "ZIP", "--out", "OUT", "--seed", "-1"], "--seed: found -1"),
        (["train", "ZIP", "--out", "app.py"], "app.py"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_two(
    arguments: list[str], sentence: str, make_zip: Zipper, tmp_path: Path, here: Here
) -> None:
    upload = make_zip({"a": 3, "b": 3})
    status, said = here(*[{"ZIP": str(upload), "OUT": str(tmp_path / "out")}.get(a, a) for a in arguments])
    assert status == 2 and sentence in said and len(said.strip().splitlines()) == 1


def test_the_commands_are_there_before_anything_heavy() -> None:
    code = (
        "import sys, tl_core.cli.commands; print({'torch', 'timm', 'pyarrow', 'pandas', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_learned(make_zip: Zipper, tmp_path: Path) -> None:
    upload = make_zip({"star": 700, "circle": 700})
    command = [sys.executable, "-m", "tl_core", "train", str(upload), "--out", str(tmp_path / "out"), "--json"]
    command += ["--framing", "pad"]  # with the middle cut out, the closer look before would have seen every picture
    terminal, theirs = pty.openpty()  # on a terminal the program draws its progress, which tells when to press Ctrl-C
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT)
    os.close(theirs)
    shown, pressed = b"", False
    while select.select([terminal], [], [], 120)[0]:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the program has closed its end
            break
        if not pressed and b"Looking at every picture" in shown:
            process.send_signal(signal.SIGINT)
            pressed = True
    out, _ = process.communicate(timeout=120)
    os.close(terminal)
    assert pressed and process.returncode == 0 and b"Traceback" not in shown
    assert b"what was learned so far is kept" in shown and b"of 1400 pictures" in shown
    record = json.loads(out.splitlines()[-1])
    assert record["reason"] == "stopped" and record["tested"] < 280
    assert (tmp_path / "out" / "bundle" / "model.safetensors").exists()


@pytest.mark.slow
def test_ants_and_bees_within_the_time_and_memory_promised(tmp_path: Path) -> None:
    upload = shared("hymenoptera.zip")
    code = (
        "import resource, subprocess, sys, time; t = time.monotonic(); "
        "subprocess.run([sys.executable, '-m', 'tl_core', 'train', *sys.argv[1:]], check=True, "
        "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
        "print(time.monotonic() - t, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(upload), "--out", str(tmp_path / "out"), "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    seconds, kilobytes = map(float, result.stdout.split())
    assert seconds < 20 and kilobytes < 3_000_000


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--epochs", "0"], "--epochs: found 0; a number from 1 to 10000 is needed"),
        (["--time-budget", "0.5"], "--time-budget: found 0.5"),
        (["--image-size", "100"], "--image-size: found 100; a multiple of 32 up to 512 is needed"),
        (["--backbone", "swin_t", "--image-size", "128"], "--image-size: found 128"),
        (["--backbone", "timm/resnet19"], "Did you mean “timm/resnet"),
        (["--seed", "-1"], "--seed: found -1"),
        (["--device", "cuda"], "--device: found cuda"),
    ],
)
def test_an_option_that_cannot_be_is_one_sentence(
    options: list[str], sentence: str, make_zip: Zipper, tmp_path: Path, here: Here
) -> None:
    status, said = here("train", make_zip({"a": 4, "b": 4}), "--out", tmp_path / "out", *options)
    assert status == 2 and sentence in said


@pytest.mark.slow
def test_what_a_run_that_goes_on_cannot_change_is_refused(make_zip: Zipper, tmp_path: Path) -> None:
    for options in (["--head", "mlp"], ["--epochs", "9"], ["--on", "hf-jobs"]):
        result = cli("train", "--resume", tmp_path, *options)
        assert result.returncode == 2 and "together with --resume" in result.stderr and options[0] in result.stderr


@pytest.mark.slow
def test_a_refused_device_leaves_the_finished_run_alone(make_zip: Zipper, tmp_path: Path) -> None:
    upload = make_zip({"star": 12, "circle": 12})
    assert cli("train", upload, "--out", tmp_path / "out").returncode == 0
    before = (tmp_path / "out" / "report.json").read_bytes()
    assert cli("train", upload, "--out", tmp_path / "out", "--device", "cuda").returncode == 2
    assert (tmp_path / "out" / "report.json").read_bytes() == before
    shutil.rmtree(tmp_path / "out" / "bundle")
    assert cli("train", "--resume", tmp_path / "out").returncode == 0
    assert (tmp_path / "out" / "bundle" / "bundle.json").exists(), "a model that is gone is made again"


def test_data_and_out_are_asked_for(make_zip: Zipper, here: Here) -> None:
    assert "DATA: found nothing" in here("train")[1]
    assert "--out: found nothing" in here("train", make_zip({"a": 4, "b": 4}))[1]


@pytest.mark.slow
def test_events_are_lines_for_programs_also_when_it_fails(make_zip: Zipper, tmp_path: Path) -> None:
    result = cli("train", make_zip({"a": 4}), "--out", tmp_path / "out", "--events")
    last = from_line(result.stdout.splitlines()[-1])
    assert result.returncode == 2 and isinstance(last, Failed) and last.code == "one_class"
    result = cli("train", make_zip({"star": 12, "circle": 12}), "--out", tmp_path / "out", "--events")
    events = [from_line(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0 and isinstance(events[-1], Finished) and len(events) > 8


def test_a_full_disk_is_an_event_also_where_safetensors_meets_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved(*_: object) -> None:
        with full_disk(room=100):
            save_file({"weights": torch.zeros(1000)}, tmp_path / "model.safetensors")

    monkeypatch.setattr("tl_core.cli.train._here", saved)
    assert main(["train", str(tmp_path), "--out", str(tmp_path / "out"), "--events"]) == 2
    last = from_line(capsys.readouterr().out)
    assert isinstance(last, Failed) and last.code == "disk_full"


@pytest.mark.slow
def test_on_hugging_face_jobs_the_same_options_are_sent_and_the_bundle_comes_back(
    make_zip: Zipper, tmp_path: Path
) -> None:
    hub, server = serve_jobs()
    (tmp_path / "rented").mkdir()
    hub.work = lambda _hub, job: run_here(job, tmp_path / "rented")
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": GOOD}
    result = cli(
        *("train", make_zip({"star": 12, "circle": 12}), "--out", tmp_path / "out", "--on", "hf-jobs"),
        *("--flavor", "cpu-basic", "--head", "mlp", "--seed", "5", "--json"),
        env=environment,
    )
    server.shutdown()
    assert result.returncode == 0, result.stderr
    sent = hub.jobs[0].spec["command"][2]
    assert "--head mlp" in sent and "--seed 5" in sent and "--on" not in sent and "--device" not in sent
    assert Predictor(tmp_path / "out" / "bundle").info.training["head"] == "mlp"
    assert "Training as a job on Hugging Face" in result.stderr and GOOD not in result.stderr + result.stdout
