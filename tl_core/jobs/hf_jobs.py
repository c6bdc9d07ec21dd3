"""Training on Hugging Face Jobs: the same command on a rented machine, followed from here, its model fetched back.

    for event in train_remotely(data, out, arguments=["--seed", "1"], flavor="a10g-small", token=token): ...

Pictures and code travel through a private dataset of the person's own, `<namespace>/transfer-lab-jobs`, one folder a
run, deleted from it afterwards. The token is sent as the job's secret and nowhere else: not in the command, not in
the environment that others may read, and it is struck out of every log line before anyone sees it.

Whatever ends the run from here (Stop, Ctrl-C, an error) cancels the job, since a forgotten one costs money. Only a
lost connection cannot: then the error says where the job is.
"""

import difflib
import json
import os
import queue
import re
import secrets
import shlex
import shutil
import tempfile
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import CommitOperationAdd, HfApi, JobInfo
from huggingface_hub.errors import HfHubHTTPError

from tl_core.bundle.files import MANIFEST, OPTIONAL
from tl_core.errors import (
    EmptyUploadError,
    HubError,
    HubRefusedError,
    NotAnArchiveError,
    NothingTrainedError,
    OptionError,
    RemoteTrainingError,
    TLError,
    TokenRefusedError,
    refuse_foreign,
)
from tl_core.events import Event, Failed, Finished, Notice, from_line
from tl_core.hub.access import Account, plain_failures, well_formed
from tl_core.hub_errors import JobLostError, JobsRefusedError, PublicRepoError, UnknownFlavorError
from tl_core.jobs.remote import BUNDLE, CODE, DATA, REPORT, RESULT, RESULT_FILES, pack_code, pack_folder, requirements
from tl_core.settings import Settings

# CUDA 12.8 knows every GPU on offer, from T4 to Blackwell; its torch meets requirements.txt, so pip adds little.
IMAGE = "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime"
REPO = "transfer-lab-jobs"
# One line for bash, ending at the first step that fails. Training needs no token, so it gets none.
STEPS = (
    'cd "$(mktemp -d)"',
    "pip install -q {hub}",
    f"hf download {{repo}} {{run}}/{CODE} {{run}}/{DATA} --repo-type dataset --local-dir . --quiet",
    "cd {run}",
    f"python -m zipfile -e {CODE} .",
    "pip install -q -r requirements.txt",
    f"env -u HF_TOKEN {{launcher}} -m tl_core train {DATA} --out {RESULT} {{arguments}} --events",
    "python -m tl_core.jobs.remote deliver {repo} {run}",
)
_ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",  # or events would come in blocks, late
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_TIMEOUT = re.compile(r"\d+(\.\d+)?[smhd]?")
_PUBLIC_HUB = "https://huggingface.co"
_OVER = ("COMPLETED", "ERROR", "CANCELED", "DELETED")
_TAIL = 20  # lines
_TICK = 0.3  # seconds between two looks at `should_stop`
_PAUSE = 5.0  # seconds before the log is opened anew
_PATIENCE = 600.0  # seconds without an answer from the Hub until the job counts as lost


def train_remotely(
    data: Path,
    out: Path,
    *,
    arguments: Sequence[str],
    flavor: str,
    token: str,
    namespace: str | None = None,
    timeout: str = "2h",
    api: HfApi | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train on `data` on a rented machine, leaving `bundle/` and `report.json` in `out`; `Finished` comes last.

    `arguments` are those of `tl_core train` without DATA and --out. Raises a TLError before anything is sent when
    something cannot work, RemoteTrainingError when the job fails, NothingTrainedError when stopped.
    """
    _check_local(data, out, timeout)
    # token=False: without it the library would fall back on the token of whoever runs this machine.
    place = _Place.open(api or HfApi(token=False), well_formed(token), namespace, flavor)
    job: JobInfo | None = None
    try:
        place.send(data)
        if should_stop():
            raise NothingTrainedError
        job = place.start(command(place.repo, place.run, arguments, flavor), flavor, timeout)
        yield Notice("remote_job", f"Training as a job on Hugging Face: {job.url}", {"url": job.url, "flavor": flavor})
        finished = yield from _follow(place, job, should_stop)
    except JobLostError:
        raise  # nothing can be reached; the job goes on, and its pictures with it
    except RemoteTrainingError:
        place.forget()
        raise
    except BaseException as error:
        if job is not None and not place.cancel(job) and not isinstance(error, GeneratorExit):
            raise place.lost(job) from None
        place.forget()
        raise
    finished = _fetch(place, job, out, finished)
    if not place.forget():
        where = f"“{place.run}” in the dataset “{place.repo}” on the Hub"
        yield Notice("remote_left_over", f"The folder {where} could not be deleted.", {"folder": place.run})
    yield finished


def command(repo: str, run: str, arguments: Sequence[str], flavor: str) -> list[str]:
    """What the job runs: `STEPS` filled in. On a flavor with several GPUs, torchrun starts one process for each."""
    found = re.search(r"x(\d+)$", flavor)
    several = found is not None and int(found[1]) > 1
    launcher = f"torchrun --standalone --nproc-per-node={found[1]}" if found and several else "python"
    hub = next(line for line in requirements() if line.startswith("huggingface_hub"))
    values = {"repo": shlex.quote(repo), "run": shlex.quote(run), "hub": shlex.quote(hub), "launcher": launcher}
    return ["bash", "-c", " && ".join(STEPS).format(**values, arguments=shlex.join(arguments))]


def _check_local(data: Path, out: Path, timeout: str) -> None:
    if not data.exists():
        raise OptionError(option="DATA", found=f"no file “{data.name}”", needed="a zip or folder of pictures is needed")
    if data.is_file() and data.stat().st_size == 0:
        raise EmptyUploadError(name=data.name)
    if data.is_file() and not zipfile.is_zipfile(data):
        raise NotAnArchiveError(name=data.name)
    if not _TIMEOUT.fullmatch(timeout):
        raise OptionError(option="--timeout", found=f"“{timeout}”", needed="a time as in 90m or 2h is needed")
    refuse_foreign(out / BUNDLE, MANIFEST)


@dataclass(frozen=True)
class _Place:
    """Where a run happens: the folder `run` of the dataset `repo`, and the Jobs of `namespace`."""

    api: HfApi
    token: str = field(repr=False)
    namespace: str
    repo: str
    run: str

    @classmethod
    def open(cls, api: HfApi, token: str, namespace: str | None, flavor: str) -> "_Place":
        """Check everything the Hub can be asked beforehand, and make the dataset. Raises a HubError."""
        repo = f"{namespace}/{REPO}" if namespace else REPO
        with plain_failures(repo):
            repo = Account.of(api.whoami(token=token)).repo_id(repo)
        with plain_failures(repo):
            flavors = [machine.name for machine in api.list_jobs_hardware(token=token)]
            if flavor not in flavors:
                closest = difflib.get_close_matches(flavor, flavors, n=1, cutoff=0.0)
                raise UnknownFlavorError(name=flavor, closest=(closest or ["cpu-basic"])[0])
            api.create_repo(repo, token=token, repo_type="dataset", private=True, exist_ok=True)
            if not api.dataset_info(repo, token=token).private:
                raise PublicRepoError(repo=repo)
        run = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        return cls(api, token, repo.split("/")[0], repo, run)

    def send(self, data: Path) -> None:
        """Put the pictures and this code into the run's folder."""
        with tempfile.TemporaryDirectory(prefix="tl-remote-") as scratch:
            code = pack_code(Path(scratch, CODE))
            pictures = data if data.is_file() else pack_folder(data, Path(scratch, DATA))
            files = {CODE: code, DATA: pictures}
            operations = [CommitOperationAdd(f"{self.run}/{name}", path) for name, path in files.items()]
            with plain_failures(self.repo):
                self.api.create_commit(
                    self.repo, operations, commit_message=f"Run {self.run}", repo_type="dataset", token=self.token
                )

    def start(self, what: list[str], flavor: str, timeout: str) -> JobInfo:
        """Start the job. Raises JobsRefusedError where money or a right is missing."""
        environment = _ENVIRONMENT | _own_limits()
        if self.api.endpoint != _PUBLIC_HUB:
            environment["HF_ENDPOINT"] = self.api.endpoint
        with plain_failures(self.repo):
            try:
                return self.api.run_job(
                    image=IMAGE,
                    command=what,
                    env=environment,
                    secrets={"HF_TOKEN": self.token},
                    flavor=flavor,
                    timeout=timeout,
                    name=f"transfer-lab-{self.run}",
                    labels={"app": "transfer-lab"},
                    namespace=self.namespace,
                    token=self.token,
                )
            except HfHubHTTPError as error:
                if (status := error.response.status_code) in (402, 403):
                    raise JobsRefusedError(status=status, namespace=self.namespace) from None
                raise

    def lines(self, job: str, *, follow: bool) -> Iterator[str]:
        """The job's log from its beginning."""
        logs = self.api.fetch_job_logs(job_id=job, namespace=self.namespace, follow=follow, token=self.token)
        return (line.replace(self.token, "hf_…") for line in logs)

    def inspect(self, job: str) -> JobInfo:
        return self.api.inspect_job(job_id=job, namespace=self.namespace, token=self.token)

    def bring_back(self, job: JobInfo, scratch: Path) -> None:
        """Download the result of an ended job. It stays on the Hub when that fails, since it was paid for."""
        try:
            with plain_failures(self.repo):
                for name in RESULT_FILES:
                    self._fetch(name, scratch)
                manifest = (scratch / self.run / RESULT / BUNDLE / MANIFEST).read_text(encoding="utf-8")
                for name in OPTIONAL:
                    if f'"{name}"' in manifest:
                        self._fetch(f"{BUNDLE}/{name}", scratch)
        except HubRefusedError as error:
            if error.values["status"] == "404":
                raise RemoteTrainingError(stage=job.status.stage, message="it left no model", url=job.url) from None
            raise self.lost(job) from None
        except HubError:
            raise self.lost(job) from None

    def _fetch(self, name: str, scratch: Path) -> None:
        name = f"{self.run}/{RESULT}/{name}"
        self.api.hf_hub_download(self.repo, name, repo_type="dataset", local_dir=scratch, token=self.token)

    def lost(self, job: JobInfo) -> JobLostError:
        return JobLostError(url=job.url, folder=self.run, repo=self.repo)

    def cancel(self, job: JobInfo) -> bool:
        """End the job; gives whether it is over."""
        try:
            with plain_failures(self.repo, self.token):
                self.api.cancel_job(job_id=job.id, namespace=self.namespace, token=self.token)
        except TLError:
            with suppress(TLError), plain_failures(self.repo, self.token):
                return self.inspect(job.id).status.stage in _OVER
            return False
        return True

    def forget(self) -> bool:
        """Delete the run's folder; gives whether that worked."""
        try:
            with plain_failures(self.repo, self.token):
                self.api.delete_folder(self.run, self.repo, repo_type="dataset", token=self.token)
        except TLError:
            return False
        return True


def _own_limits() -> dict[str, str]:
    """The limits set for this process by `TL_` variables, so that the job has the same. Folders stay here."""
    names = (f"TL_{item.name.upper()}" for item in fields(Settings) if item.name != "data_dir")
    return {name: os.environ[name] for name in names if name in os.environ}


def _follow(place: _Place, job: JobInfo, should_stop: Callable[[], bool]) -> Generator[Event, None, Finished | None]:
    """The job's events until it is completed; its own `Finished` is held back, and given at the end."""
    reader, tail = _Reader(place, job), deque[str](maxlen=_TAIL)
    ending: Finished | Failed | None = None
    threading.Thread(target=reader.run, daemon=True).start()
    try:
        while True:
            if should_stop():
                raise NothingTrainedError
            try:
                item = reader.items.get(timeout=_TICK)
            except queue.Empty:
                continue
            if isinstance(item, JobInfo):
                break
            if isinstance(item, Exception):
                raise item
            if isinstance(item, str):
                tail.append(item)
            elif isinstance(item, Finished | Failed):
                ending = item
            elif not hasattr(item, "bundle"):  # a model told of before the end is on a disk that is not here
                yield item
    finally:
        reader.closed.set()
    if item.status.stage != "COMPLETED":
        raise _failure(place, item, ending, tail)
    return ending if isinstance(ending, Finished) else None


def _failure(place: _Place, job: JobInfo, ending: Finished | Failed | None, tail: Sequence[str]) -> RemoteTrainingError:
    """The Hub's word on the job and the run's own last one, which is the one that helps."""
    words = [line for line in tail if re.search(r"\w", line)]  # not the rulers that torchrun draws
    last = ending.text if isinstance(ending, Failed) else (words or [""])[-1]
    said = [(job.status.message or "").replace(place.token, "hf_…"), last]
    message = ": ".join(part.strip(" .:") for part in said if part.strip(" .:")) or "no reason was given"
    return RemoteTrainingError(stage=str(job.status.stage), message=message, url=job.url, tail=list(tail))


class _Reader:
    """Follows a job's log in a thread of its own, since reading blocks: every line once, however often it breaks.

    `items` brings events, other lines as text, and at last the ended job or the reason why it cannot be followed.
    """

    def __init__(self, place: _Place, job: JobInfo) -> None:
        self.items: queue.SimpleQueue[Event | str | JobInfo | Exception] = queue.SimpleQueue()
        self.closed = threading.Event()
        self._place, self._job = place, job
        self._seen, self._heard, self._told_all = 0, time.monotonic(), False

    def run(self) -> None:
        try:
            self.items.put(self._until_over())
        except Exception as error:
            self.items.put(error)

    def _until_over(self) -> JobInfo | Exception:
        while not self.closed.is_set():
            try:
                with plain_failures(self._place.repo):
                    self._read(follow=True)
                    job = self._place.inspect(self._job.id)
                    self._heard = time.monotonic()
                    if job.status.stage in _OVER:
                        if not self._told_all:  # the stream broke off before the log's end
                            self._read(follow=False)
                        return job
            except HubError as error:
                # A token deleted meanwhile is not worth asking with again.
                if isinstance(error, TokenRefusedError) or time.monotonic() - self._heard > _PATIENCE:
                    return self._place.lost(self._job)
            self.closed.wait(_PAUSE)
        return self._job

    def _read(self, *, follow: bool) -> None:
        for number, line in enumerate(self._place.lines(self._job.id, follow=follow)):
            self._heard = time.monotonic()
            if self.closed.is_set():
                return
            if number < self._seen:
                continue
            self._seen = number + 1
            try:
                event: Event | str = from_line(line)
            except ValueError:
                event = line
            self._told_all = self._told_all or isinstance(event, Finished | Failed)
            self.items.put(event)


def _fetch(place: _Place, job: JobInfo, out: Path, finished: Finished | None) -> Finished:
    """Bring the result into `out`, checked first; `finished` is the job's own last word, where it arrived."""
    from tl_core.bundle import bundle  # with torch, which nothing before this needs

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".remote-", dir=out) as scratch:
        place.bring_back(job, Path(scratch))
        fetched = Path(scratch, place.run, RESULT)
        bundle.load(fetched / BUNDLE)
        report: dict[str, Any] = json.loads((fetched / REPORT).read_text(encoding="utf-8"))
        shutil.rmtree(out / BUNDLE, ignore_errors=True)
        (fetched / BUNDLE).replace(out / BUNDLE)
        (fetched / REPORT).replace(out / REPORT)
    if finished is None:  # lost with a piece of the log; the report says the same
        stopped = bool(report["training"].get("stopped"))
        reason: Literal["stopped", "completed"] = "stopped" if stopped else "completed"
        finished = Finished("", report["evaluation"]["accuracy"], reason, report["seconds"])
    return replace(finished, bundle=str(out / BUNDLE))
