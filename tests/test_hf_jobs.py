"""Training on Hugging Face Jobs with the real client: a stand-in runs the very command, or says what a job would."""

import json
import shlex
import subprocess
import sys
import time
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from tests.conftest import Zipper, picture
from tests.hub_stand_in import GOOD, READ, Repo
from tests.jobs_stand_in import Job, JobFailedError, JobsStandIn, run_here, run_of, serve_jobs
from tl_core import errors, hub_errors
from tl_core.bundle import bundle
from tl_core.bundle.files import FILES, UNKNOWN
from tl_core.events import Event, Failed, Finished, Notice, Progress, to_line
from tl_core.hub_errors import ReadOnlyTokenError
from tl_core.jobs import hf_jobs, remote
from tl_core.training import run as training

DATASET = "datasets/alice/transfer-lab-jobs"
EVENTS = [Progress("features", done, 10, 1.0) for done in range(1, 11)]
ENDING = Finished("result/bundle", 0.75, "completed", {"features": 1.0})


def pictures(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, shape in (("stars", "star"), ("hearts", "heart")):
            for number in range(8):
                archive.writestr(f"{name}/{number}.jpg", picture(number, shape=shape))
    return path


def no_code(target: Path) -> Path:
    """Quickly packed; the real code goes with the job that really runs."""
    target.write_bytes(b"code")
    return target


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsStandIn]:
    monkeypatch.setattr(hf_jobs, "_PAUSE", 0.05)
    monkeypatch.setattr(hf_jobs, "pack_code", no_code)
    stand_in, server = serve_jobs()
    yield stand_in
    server.shutdown()
    server.server_close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return pictures(tmp_path / "pictures.zip")


class Real:
    """One job that really ran: what was sent, said, made and fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        self.hub, server = serve_jobs()
        self.made: dict[str, bytes] = {}
        self.sent: dict[str, bytes] = {}
        self.hub.work = self.work
        data = pictures(folder / "my pictures.zip")
        api = HfApi(endpoint=self.hub.url, token=False)
        told = hf_jobs.train_remotely(
            data, self.out, arguments=["--seed", "3"], flavor="cpu-basic", token=GOOD, api=api, timeout="90m"
        )
        try:
            self.events = list(told)
        finally:
            self.data = data.read_bytes()
            server.shutdown()
            server.server_close()

    def work(self, hub: JobsStandIn, job: Job) -> Iterator[str]:
        self.sent = dict(hub.files())
        yield from run_here(job, self.folder)
        self.made = {name: data for name, data in hub.files().items() if "/result/" in name}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    return Real(tmp_path_factory.mktemp("real"))


def scripted(*lines: Event | str, made: dict[str, bytes] | None = None, fails: str | None = None) -> Any:
    """The work of a job that says `lines` and leaves what the real one made, or fails."""

    def work(hub: JobsStandIn, job: Job) -> Iterator[str]:
        for line in lines:
            yield line if isinstance(line, str) else to_line(line).strip()
        if fails is not None:
            raise JobFailedError(fails)
        for name, content in (made or {}).items():
            hub.files()[f"{run_of(hub)}/result/{name.split('/result/')[1]}"] = content

    return work


def start(hub: JobsStandIn, data: Path, out: Path, **changes: Any) -> Iterator[Event]:
    wishes = {"arguments": [], "flavor": "t4-small", "token": GOOD, "api": HfApi(endpoint=hub.url, token=False)}
    return hf_jobs.train_remotely(data, out, **{**wishes, **changes})


# the whole way


@pytest.mark.slow
def test_the_model_a_job_made_is_the_one_that_arrives(real: Real) -> None:
    assert {name.split("/result/")[1] for name in real.made} == {
        *(f"bundle/{name}" for name in (*FILES, UNKNOWN)),
        "report.json",
    }
    for name, content in real.made.items():
        assert (real.out / name.split("/result/")[1]).read_bytes() == content
    assert {path.name for path in real.out.iterdir()} == {"bundle", "report.json"}
    _, info = bundle.load(real.out / "bundle")
    assert info.class_names == ("hearts", "stars") and info.training["seed"] == 3


def test_its_events_come_out_and_its_last_one_names_the_model_here(real: Real) -> None:
    first, *between, last = real.events
    assert isinstance(first, Notice) and first.values["url"].startswith(f"{real.hub.url}/jobs/alice/")
    assert any(isinstance(event, Progress) for event in between)
    assert not any(isinstance(event, Finished | Failed) for event in between)
    report = json.loads((real.out / "report.json").read_text())
    assert isinstance(last, Finished) and last.bundle == str(real.out / "bundle")
    assert last.accuracy == report["evaluation"]["accuracy"]


def test_pictures_and_code_travel_privately_and_are_deleted_afterwards(real: Real) -> None:
    assert real.hub.repos[DATASET].private
    assert real.hub.files() == {}
    sent = {name.split("/")[1]: content for name, content in real.sent.items()}
    assert set(sent) == {"code.zip", "data.zip"} and sent["data.zip"] == real.data


def test_the_job_asked_for_is_the_same_command(real: Real) -> None:
    [job] = real.hub.jobs
    assert job.spec["dockerImage"] == hf_jobs.IMAGE and job.spec["flavor"] == "cpu-basic"
    assert job.spec["timeoutSeconds"] == 5400 and job.spec["labels"]["app"] == "transfer-lab"
    bash, option, line = job.spec["command"]
    assert (bash, option) == ("bash", "-c") and "\n" not in line
    assert "python -m tl_core train data.zip --out result --seed 3 --events" in line
    assert job.spec["secrets"] == {"HF_TOKEN": GOOD} and job.spec["environment"]["HF_ENDPOINT"] == real.hub.url


def test_the_job_installs_what_the_core_needs_and_no_more(real: Real) -> None:
    installed = (real.folder / "pip.txt").read_text()
    assert "huggingface_hub" in installed and "torch>=" in installed and "timm>=" in installed
    assert "gradio" not in installed


def test_the_token_is_in_the_secrets_and_nowhere_else(real: Real) -> None:
    shown = {key: value for key, value in real.hub.jobs[0].spec.items() if key != "secrets"}
    assert GOOD not in json.dumps(shown)
    assert GOOD not in "".join(real.hub.jobs[0].lines) and not any(GOOD in to_line(event) for event in real.events)
    for content in (*real.sent.values(), *real.made.values()):
        assert GOOD.encode() not in content
    assert {token for _, path, token in real.hub.requests if path.startswith("/api/datasets")} == {GOOD}


def test_a_log_line_with_the_token_is_told_without_it(hub: JobsStandIn, data: Path, tmp_path: Path) -> None:
    hub.work = scripted(Notice("x", f"token {GOOD}"), f"HF_TOKEN={GOOD}", fails=f"exit {GOOD}")
    events: list[Event] = []
    with pytest.raises(errors.RemoteTrainingError) as caught:
        events.extend(start(hub, data, tmp_path / "out"))
    assert GOOD not in "".join(traceback.format_exception(caught.value)) + str(caught.value.tail)
    assert "HF_TOKEN=hf_…" in str(caught.value)


# what is sent


def test_the_code_runs_from_an_empty_folder(real: Real, tmp_path: Path) -> None:
    code = next(content for name, content in real.sent.items() if name.endswith("code.zip"))
    (tmp_path / "code.zip").write_bytes(code)
    where = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", tmp_path / "code.zip", where], check=True)
    asked = {"cwd": where, "capture_output": True, "text": True, "check": True}
    assert "train" in subprocess.run([sys.executable, "-m", "tl_core", "--help"], **asked).stdout
    code = "import tl_core.models.availability as found; print(found.__file__)"
    assert subprocess.run([sys.executable, "-c", code], **asked).stdout.startswith(str(where))
    assert (where / "pyproject.toml").exists() and list(where.glob("tl_core/models/weights/*.safetensors"))


def test_the_same_code_is_the_same_parcel(tmp_path: Path) -> None:
    one, two = (remote.pack_code(tmp_path / name).read_bytes() for name in ("1.zip", "2.zip"))
    assert one == two
    assert not any(
        "__pycache__" in name or name.startswith("tl_ui") for name in zipfile.ZipFile(tmp_path / "1.zip").namelist()
    )


def test_an_installed_package_knows_its_own_requirements(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(remote, "_PACKAGE", tmp_path / "tl_core")
    stated = ["gradio[oauth]==6.31.0", "pydantic<=2.12.5", "torch>=2.8", 'x; extra == "dev"', "huggingface_hub>=2.4"]
    monkeypatch.setattr(remote, "requires", lambda name: stated)
    assert remote.requirements() == ["torch>=2.8", "huggingface_hub>=2.4"]


def test_names_of_the_result_are_those_of_a_run() -> None:
    assert (remote.BUNDLE, remote.REPORT) == (training.BUNDLE, training.REPORT)


def test_a_folder_is_zipped_first(hub: JobsStandIn, real: Real, tmp_path: Path) -> None:
    folder = tmp_path / "flowers"
    for name in ("a/1.jpg", "b/2.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (folder / "a" / "link.jpg").symlink_to("/etc/passwd")
    packed: list[str] = []

    def work(hub: JobsStandIn, job: Job) -> Iterator[str]:
        (tmp_path / "sent.zip").write_bytes(hub.files()[f"{run_of(hub)}/data.zip"])
        packed.extend(zipfile.ZipFile(tmp_path / "sent.zip").namelist())
        yield from scripted(ENDING, made=real.made)(hub, job)

    hub.work = work
    list(start(hub, folder, tmp_path / "out"))
    assert packed == ["a/1.jpg", "b/2.jpg"]


@pytest.mark.parametrize(
    ("flavor", "processes"),
    [("a10g-largex2", 2), ("l4x4", 4), ("a100x8", 8), ("h200x2", 2), ("rtx-pro-6000x4", 4)]
    + [(flavor, 1) for flavor in ("cpu-xl", "t4-small", "l4x1", "l40sx1", "h200", "rtx-pro-6000")],
)
def test_several_gpus_are_used_by_torchrun(flavor: str, processes: int) -> None:
    line = hf_jobs.command("alice/transfer-lab-jobs", "r", ["--seed", "1"], flavor)[2]
    launcher = "python" if processes == 1 else f"torchrun --standalone --nproc-per-node={processes}"
    assert f"&& env -u HF_TOKEN {launcher} -m tl_core train data.zip --out result --seed 1 --events &&" in line


def test_arguments_reach_the_command_as_they_are() -> None:
    hostile = ["--backbone", "a b; rm -rf /", "$(id)", "'\"{run}"]
    line = hf_jobs.command("alice/transfer-lab-jobs", "r", hostile, "t4-small")[2]
    words = shlex.split(line)
    at = words.index("--out")
    assert words[at + 2 : at + 6] == hostile


def test_limits_set_here_hold_there(
    hub: JobsStandIn, real: Real, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TL_MAX_CLASSES", "7")
    hub.work = scripted(ENDING, made=real.made)
    list(start(hub, data, tmp_path / "out"))
    environment = hub.jobs[0].spec["environment"]
    assert environment["TL_MAX_CLASSES"] == "7" and "TL_DATA_DIR" not in environment


# following


@pytest.mark.parametrize(
    ("breaks", "refusals"), [([], []), ([4, 0, 7], []), ([], [503, 500, 404]), ([4, 3], [0, 503, 0, 500])]
)
def test_every_event_is_told_once_however_often_the_log_breaks(
    hub: JobsStandIn,
    real: Real,
    data: Path,
    tmp_path: Path,
    breaks: list[int],
    refusals: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sleep = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: sleep(min(seconds, 0.05)))
    hub.breaks, hub.refusals = breaks, refusals
    hub.work = scripted(*EVENTS[:6], "pip says hello", *EVENTS[6:], ENDING, made=real.made)
    first, *events = start(hub, data, tmp_path / "out")
    assert events[:-1] == EVENTS
    assert events[-1] == Finished(str(tmp_path / "out" / "bundle"), 0.75, "completed", {"features": 1.0})


def test_a_last_event_lost_with_the_log_is_read_from_the_report(
    hub: JobsStandIn, real: Real, data: Path, tmp_path: Path
) -> None:
    hub.work = scripted("no event at all", made=real.made)
    *_, last = start(hub, data, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert last == Finished(
        str(tmp_path / "out" / "bundle"), report["evaluation"]["accuracy"], "completed", report["seconds"]
    )


def test_a_failed_job_is_told_with_its_reason_its_page_and_the_end_of_its_log(
    hub: JobsStandIn, data: Path, tmp_path: Path
) -> None:
    log = [f"line {number}" for number in range(30)]
    sentence = "Found one class only: “ants”. At least two are needed, so that there is something to tell apart."
    hub.work = scripted(*log, EVENTS[0], sentence, "", fails="Job failed with exit code: 2")
    with pytest.raises(errors.RemoteTrainingError) as caught:
        list(start(hub, data, tmp_path / "out"))
    said = str(caught.value)
    assert "(ERROR): Job failed with exit code: 2: Found one class only" in said and "to tell apart." in said
    assert f"{hub.url}/jobs/alice/{hub.jobs[0].id}" in said
    assert caught.value.tail == (*log[-18:], sentence, "")
    assert hub.files() == {} and not (tmp_path / "out" / "bundle").exists()


def test_a_failure_told_as_an_event_is_the_reason(hub: JobsStandIn, data: Path, tmp_path: Path) -> None:
    failed = Failed.of(errors.OneClassError(label="ants"))
    hub.work = scripted(failed, "Traceback", fails="")
    with pytest.raises(errors.RemoteTrainingError, match="Found one class only") as caught:
        list(start(hub, data, tmp_path / "out"))
    assert "Traceback" not in str(caught.value)


def test_a_job_that_says_nothing_still_has_a_sentence(hub: JobsStandIn, data: Path, tmp_path: Path) -> None:
    hub.work = scripted(fails="")
    with pytest.raises(errors.RemoteTrainingError, match="no reason was given"):
        list(start(hub, data, tmp_path / "out"))


def endless(hub: JobsStandIn, job: Job) -> Iterator[str]:
    """Says one thing and goes on until it is canceled."""
    yield to_line(EVENTS[0]).strip()
    job.wait_until_over()


def test_stop_cancels_the_job_and_takes_the_pictures_back(hub: JobsStandIn, data: Path, tmp_path: Path) -> None:
    hub.work, told = endless, []
    with pytest.raises(errors.NothingTrainedError):
        for event in start(hub, data, tmp_path / "out", should_stop=lambda: len(told) > 1):
            told.append(event)
    assert told[1:] == [EVENTS[0]]
    assert hub.jobs[0].stage == "CANCELED" and hub.files() == {}


def test_whoever_stops_listening_leaves_no_job_behind(hub: JobsStandIn, data: Path, tmp_path: Path) -> None:
    hub.work = endless
    told = start(hub, data, tmp_path / "out")
    next(told), next(told)
    told.close()  # type: ignore[attr-defined]
    assert hub.jobs[0].stage == "CANCELED" and hub.files() == {}


def test_stop_before_the_job_is_started_starts_none(hub: JobsStandIn, data: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.NothingTrainedError):
        list(start(hub, data, tmp_path / "out", should_stop=lambda: True))
    assert hub.jobs == [] and hub.files() == {}


@pytest.mark.parametrize("stop", [False, True])
def test_a_lost_connection_names_the_job_that_goes_on(
    hub: JobsStandIn, data: Path, tmp_path: Path, stop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_jobs, "_PATIENCE", 60.0 if stop else 0.0)
    hub.work, hub.breaks = endless, [1]
    with pytest.raises(hub_errors.JobLostError) as caught:
        for event in start(hub, data, tmp_path / "out", should_stop=lambda: stop and hub.unreachable):
            hub.unreachable = isinstance(event, Progress)
    assert f"{hub.url}/jobs/alice/{hub.jobs[0].id}" in str(caught.value) and run_of(hub) in str(caught.value)
    assert hub.jobs[0].stage == "RUNNING" and len(hub.files()) == 2
    hub.jobs[0].end("CANCELED")


def test_a_result_that_cannot_be_fetched_stays_on_the_hub(
    hub: JobsStandIn, real: Real, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.work = scripted(EVENTS[0], ENDING, made=real.made)
    told = start(hub, data, tmp_path / "out")
    next(told)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    bring_back = hf_jobs._Place.bring_back

    def unplugged(*which: Any) -> None:
        hub.unreachable = True
        bring_back(*which)

    monkeypatch.setattr(hf_jobs._Place, "bring_back", unplugged)
    with pytest.raises(hub_errors.JobLostError, match="kept in the folder"):
        list(told)
    assert len(hub.files()) == 2 + len(real.made) and not (tmp_path / "out" / "bundle").exists()


def test_a_result_damaged_on_the_way_does_not_replace_what_is_here(
    hub: JobsStandIn, real: Real, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    hub.work = scripted(ENDING, made=real.made)
    list(start(hub, data, out))
    before = (out / "bundle" / "model.safetensors").read_bytes()
    bent = {name: content[:-1] + b"x" if "safetensors" in name else content for name, content in real.made.items()}
    hub.work = scripted(ENDING, made=bent)
    with pytest.raises(errors.DamagedBundleError):
        list(start(hub, data, out))
    assert (out / "bundle" / "model.safetensors").read_bytes() == before


def test_a_result_that_is_not_there_is_not_reported_as_one(hub: JobsStandIn, data: Path, tmp_path: Path) -> None:
    hub.work = scripted(ENDING)
    with pytest.raises(errors.RemoteTrainingError, match="left no model"):
        list(start(hub, data, tmp_path / "out"))


# checks first


def test_an_unknown_machine_is_refused_with_the_closest_one(hub: JobsStandIn, data: Path, tmp_path: Path) -> None:
    with pytest.raises(hub_errors.UnknownFlavorError, match="no machine called “a10-small”. Did you mean “a10g-small”"):
        list(start(hub, data, tmp_path / "out", flavor="a10-small"))
    assert hub.repos == {} and hub.jobs == []


@pytest.mark.parametrize(
    ("token", "error"),
    [
        ("hf_short", errors.TokenFormatError),
        ("hf_" + "unknownunknown", errors.TokenRefusedError),
        (READ, ReadOnlyTokenError),
    ],
)
def test_a_token_that_will_not_do_is_refused_before_anything_is_sent(
    hub: JobsStandIn, data: Path, tmp_path: Path, token: str, error: type[errors.HubError]
) -> None:
    with pytest.raises(error) as caught:
        list(start(hub, data, tmp_path / "out", token=token))
    assert hub.repos == {} and token not in "".join(traceback.format_exception(caught.value))


def test_somebody_elses_namespace_is_refused(hub: JobsStandIn, data: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.NoWriteAccessError, match="may not write to “victim/transfer-lab-jobs”"):
        list(start(hub, data, tmp_path / "out", namespace="victim"))


def test_pictures_never_go_to_a_public_dataset(hub: JobsStandIn, data: Path, tmp_path: Path) -> None:
    hub.repos[DATASET] = Repo(private=False)
    with pytest.raises(hub_errors.PublicRepoError, match="is public"):
        list(start(hub, data, tmp_path / "out"))
    assert hub.files() == {}


@pytest.mark.parametrize("status", [402, 403])
def test_a_job_that_is_refused_says_what_it_takes(hub: JobsStandIn, data: Path, tmp_path: Path, status: int) -> None:
    hub.start_status = status
    with pytest.raises(hub_errors.JobsRefusedError, match=f"status {status}.*“alice” has credits"):
        list(start(hub, data, tmp_path / "out"))
    assert hub.files() == {}


def test_what_cannot_be_trained_on_is_refused_before_any_request(
    hub: JobsStandIn, data: Path, tmp_path: Path, make_zip: Zipper
) -> None:
    text, empty, foreign = tmp_path / "notes.txt", tmp_path / "empty.zip", tmp_path / "foreign"
    text.write_text("not a zip")
    empty.touch()
    (foreign / "bundle").mkdir(parents=True)
    (foreign / "bundle" / "thesis.doc").touch()
    for source, out, changes, error in (
        (tmp_path / "gone.zip", "out", {}, errors.OptionError),
        (text, "out", {}, errors.NotAnArchiveError),
        (empty, "out", {}, errors.EmptyUploadError),
        (data, "foreign", {}, errors.OptionError),
        (data, "out", {"timeout": "soon"}, errors.OptionError),
    ):
        with pytest.raises(error):
            list(start(hub, source, tmp_path / out, **changes))
    assert hub.requests == []


def test_no_network_is_said(data: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.HubUnreachableError):
        list(start(JobsStandIn(url="http://127.0.0.1:9"), data, tmp_path / "out"))
