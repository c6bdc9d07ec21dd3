"""Runs as tasks of a Ray cluster, when `TL_RAY_ADDRESS` names one: Ray places them, tries them again when a process or
a machine dies, and joins several processes where a run is to have them. Whose turn it is still says the queue.

    python -m tl_core.jobs.ray_driver NAME SETTINGS

is the dispatcher, beside the web process as the training worker is where there is no cluster: Ray ends a process whose
cluster has gone, and that must not be the page. On SIGTERM runs are interrupted (`ray.cancel`), left at the next moment
they can be gone on from, and are the next to be taken, by whichever dispatcher. Tasks end with their dispatcher; the
lock on a run ends with its task. So a run is never trained twice, whatever else is believed of it.

Every machine of the cluster needs this program at the same path, and the data folder at the same path.
"""

import contextlib
import importlib
import importlib.util
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from tl_core import redaction
from tl_core.jobs.heartbeat import beating
from tl_core.jobs.runs import REMOVED, TROUBLE, WORKERS, RunFolder
from tl_core.jobs.slices import SLICED
from tl_core.jobs.store import Store
from tl_core.jobs.supervisor import WorkerSupervisor
from tl_core.jobs.worker import MAX_ATTEMPTS, OVERTIME_SECONDS, PATIENCE_SECONDS, take
from tl_core.queue_errors import ClusterMissingError, DataFolderError, QueueUnreachableError
from tl_core.settings import SECRET_VARIABLES, Settings

Outcome = Literal["over", "left", "held", "lost"]
_LOOK_SECONDS = 0.3
_TROUBLE_SECONDS = 10.0  # before anything is begun again after the cluster could not do a run
_MOST_TROUBLES = 3  # one after the other, until people are told
_LEAVING_SECONDS = 4.0  # less than the supervisor gives
_TOGETHER_PATIENCE = timedelta(hours=12)  # as in `training.distributed`
log = logging.getLogger("transfer_lab.cluster")


class RayDispatcher(WorkerSupervisor):
    """Keeps one dispatcher alive in place of a training worker, until `close`."""

    def start(self) -> None:
        """Raises ClusterMissingError."""
        if importlib.util.find_spec("ray") is None:
            raise ClusterMissingError
        super().start()

    def _program(self, name: str) -> tuple[list[str], dict[str, str]]:
        more = {"RAY_USAGE_STATS_ENABLED": "0"}
        more |= {name: os.environ[name] for name in _RAY_SECRETS if name in os.environ}
        return ["tl_core.jobs.ray_driver", name, json.dumps(self._settings.to_json())], more


# By which a cluster that asks for it knows who may use it.
_RAY_SECRETS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def main() -> None:
    redaction.install()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    name, parent = sys.argv[1], os.getppid()
    # Nothing that this process starts is to inherit the queue's address.
    database = os.environ.pop("TL_DATABASE_URL", "")
    settings = replace(Settings.from_json(json.loads(sys.argv[2])), database_url=database)
    store, cluster = Store(settings), Cluster(settings)
    leaving = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # after Ray, which sets its own
        signal.signal(number, lambda *_: leaving.set())
    (settings.data_dir / TROUBLE).unlink(missing_ok=True)
    log.info("runs go to the cluster at %s, %d at a time at the moment", settings.ray_address, cluster.slots())
    dispatch = Dispatch(settings, store, cluster, name)
    with beating(store, name, settings.data_dir / WORKERS / name):
        while os.getppid() == parent and not leaving.is_set():
            try:
                dispatch.turn()
            except QueueUnreachableError:
                leaving.wait(PATIENCE_SECONDS)
        dispatch.leave()
    logging.shutdown()
    os._exit(0)  # what it still has on the cluster ends with it


class Cluster:
    """What is asked of Ray."""

    def __init__(self, settings: Settings) -> None:
        """Connect to the cluster at `settings.ray_address`. Raises Ray's ConnectionError."""
        self._settings, self._ray = settings, _ray()
        environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "RAY_USAGE_STATS_ENABLED": "0"}
        self._ray.init(
            settings.ray_address,
            runtime_env={"env_vars": environment},
            log_to_driver=False,  # what tasks log stays with the cluster
            logging_level=logging.WARNING,
        )
        together = settings.ray_processes > 1  # then the task itself only waits
        needs = {"num_cpus": 0} if together else {"num_cpus": settings.ray_cpus, "num_gpus": settings.ray_gpus}
        task = train_together if together else train_here
        self._task = self._ray.remote(task).options(**needs, max_retries=MAX_ATTEMPTS)
        self._record = replace(settings, ray_address="").to_json()

    def slots(self) -> int:
        """Runs that the machines that are there now have room for, all in all."""
        return slots([node["Resources"] for node in self._ray.nodes() if node["Alive"]], self._settings)

    def begin(self, folder: Path) -> Any:
        """Hand in a run; gives what it is known by."""
        return self._task.remote(str(folder), self._record)

    def ended(self, tasks: Sequence[Any], seconds: float) -> list[Any]:
        """Those that ended, after `seconds` or when all did."""
        if not tasks:
            time.sleep(seconds)
            return []
        done, _ = self._ray.wait(list(tasks), num_returns=len(tasks), timeout=seconds)
        return list(done)

    def outcome(self, task: Any) -> Outcome:
        """What an ended task came to; "left" when it was interrupted. Raises what ended it otherwise."""
        try:
            return self._ray.get(task)  # type: ignore[no-any-return]
        except self._ray.exceptions.TaskCancelledError:
            return "left"

    def interrupt(self, task: Any, *, hard: bool = False) -> None:
        """Ask a task to leave its run; `hard` ends its process."""
        self._ray.cancel(task, force=hard)


def slots(machines: Sequence[dict[str, float]], settings: Settings) -> int:
    """Runs that fit on `machines` (what Ray says each has) at once. A process fits on one machine or not at all; those
    that train together may be spread."""
    needs = {"CPU": settings.ray_cpus, "GPU": settings.ray_gpus}
    needed = {kind: count for kind, count in needs.items() if count}
    processes = sum(min(int(machine.get(kind, 0.0) // count) for kind, count in needed.items()) for machine in machines)
    return processes // max(1, settings.ray_processes)


@dataclass
class _Task:
    """A run that the cluster has, since `begun`."""

    run: RunFolder
    begun: float = field(default_factory=time.monotonic)
    interrupted: bool = False
    hung: bool = False

    @property
    def id(self) -> str:
        return self.run.path.name

    def over(self) -> bool:
        """What the folder itself says."""
        return not self.run.path.exists() or (self.run.path / REMOVED).exists() or self.run.over()

    def left(self) -> None:
        """It ended before its run did, which was not the run's fault unless it hung: or that would begin for ever."""
        if not self.hung:
            self.run.left_in_order()


class Dispatch:
    """Takes runs whose turn has come to the cluster while there is room, and tells the queue how they ended."""

    def __init__(self, settings: Settings, store: Store, cluster: Cluster, name: str) -> None:
        self._settings, self._store, self._cluster, self._name = settings, store, cluster, name
        self._tasks: dict[Any, _Task] = {}
        self._untold: list[tuple[str, Outcome]] = []
        self._not_before, self._troubles = 0.0, 0

    def turn(self) -> None:
        """Look once. Raises QueueUnreachableError; what the queue has not heard of then, it hears of next time."""
        self._collect(_LOOK_SECONDS)
        self._tell()
        if time.monotonic() >= self._not_before:
            self._begin()

    def leave(self) -> None:
        """Have every run left in order, as far as there is time, and given back."""
        for ref, task in self._tasks.items():
            task.interrupted = True
            self._cluster.interrupt(ref)
        end = time.monotonic() + _LEAVING_SECONDS
        while self._tasks and time.monotonic() < end:
            self._collect(_LOOK_SECONDS)
        for task in self._tasks.values():  # it ends with this process
            task.left()
            self._untold.append((task.id, "left"))
        with contextlib.suppress(QueueUnreachableError):  # then the others notice
            self._tell()

    def _begin(self) -> None:
        if not self._store.waiting():
            return
        room = self._cluster.slots() - len(self._store.running())  # those of all dispatchers
        while room > 0 and (job := self._store.take(self._name, except_for=SLICED)) is not None:
            task = _Task(RunFolder(self._settings.runs_dir / job.id))
            self._tasks[self._cluster.begin(task.run.path)] = task
            room -= 1

    def _collect(self, seconds: float) -> None:
        """Look for `seconds` at most which tasks ended; end those that hang."""
        for ref in self._cluster.ended(list(self._tasks), seconds):
            task = self._tasks.pop(ref)
            outcome = self._outcome(ref, task)
            taken = time.monotonic() - task.begun
            log.info("run %s %s after %.1f s on the cluster", task.id, outcome, taken)
            self._untold.append((task.id, outcome))
            patience = {"held": PATIENCE_SECONDS, "lost": _TROUBLE_SECONDS}.get(outcome, 0.0)
            self._not_before = max(self._not_before, time.monotonic() + patience)
        longest = self._settings.max_run_seconds + OVERTIME_SECONDS
        for ref, task in self._tasks.items():
            if time.monotonic() - task.begun > longest and not task.interrupted:
                log.warning("run %s does not end; ending its process", task.id)
                task.interrupted = task.hung = True
                self._cluster.interrupt(ref, hard=True)

    def _outcome(self, ref: Any, task: _Task) -> Outcome:
        """How a run's task ended, and whether the folder agrees."""
        try:
            outcome = self._cluster.outcome(ref)
            if outcome == "over" and not task.over():
                log.error("run %s: its machine does not see this data folder", task.id)
                outcome = "lost"
        except Exception as error:  # whatever Ray has to say
            said = str(getattr(error, "cause", None) or type(error).__name__).splitlines()[:1]
            log.error("run %s was lost by the cluster: %s", task.id, *said)
            outcome = "over" if task.over() else "left" if task.interrupted else "lost"
        if outcome == "left":
            task.left()
        self._troubles = self._troubles + 1 if outcome == "lost" else 0
        if self._troubles == _MOST_TROUBLES:
            (self._settings.data_dir / TROUBLE).touch()
        elif outcome == "over":
            (self._settings.data_dir / TROUBLE).unlink(missing_ok=True)
        return outcome

    def _tell(self) -> None:
        """Tell the queue what ended."""
        while self._untold:
            id, outcome = self._untold[0]
            tell = self._store.finish if outcome == "over" else self._store.give_back
            tell(id, self._name)
            self._untold.pop(0)


def train_here(folder: str, record: dict[str, str | int]) -> Outcome:
    """What a task does: it trains the run until that is over, or until the task is cancelled."""
    leaving = threading.Event()
    settings = _at_home(record)
    with _interrupted(leaving.set):
        outcome = take(RunFolder(Path(folder)), settings, should_pause=leaving.is_set)
    return "left" if outcome == "paused" else outcome


def train_together(folder: str, record: dict[str, str | int]) -> Outcome:
    """The same with several processes, which Ray Train starts, joins, and starts again together when one dies."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    settings, run = _at_home(record), RunFolder(Path(folder))
    gpus = settings.ray_gpus
    each = {"CPU": float(settings.ray_cpus)} | ({"GPU": float(gpus)} if gpus else {})
    seconds = round(_TOGETHER_PATIENCE.total_seconds())
    scratch = run.path / "ray"
    try:
        TorchTrainer(
            _train_member,
            train_loop_config={"folder": folder, "settings": record},
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=seconds),
            scaling_config=ScalingConfig(
                num_workers=settings.ray_processes, use_gpu=bool(gpus), resources_per_worker=each
            ),
            run_config=RunConfig(
                name=secrets.token_hex(4),  # or Ray goes on with what an earlier one left
                storage_path=str(scratch),
                failure_config=FailureConfig(max_failures=MAX_ATTEMPTS),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return "over" if run.over() or not run.path.exists() else "held"


def _train_member(config: dict[str, Any]) -> None:
    """What each of them does: the first trains, the others help until it is done."""
    from ray.train import collective, get_context

    settings, device = _at_home(config["settings"]), "cuda" if config["settings"]["ray_gpus"] else "cpu"
    if get_context().get_world_rank() == 0:
        take(RunFolder(Path(config["folder"])), settings)
    else:
        threading.Thread(target=_help, args=(settings, device), daemon=True).start()
    collective.barrier()  # where the first never began, or gave up in the middle, the others still wait for it


def _help(settings: Settings, device: str) -> None:
    from tl_core.training.run import help_train

    try:
        help_train(settings=settings, device=device)
    except BaseException:
        log.exception("a process that helped died")
        os._exit(1)  # alone it can do nothing, and the first waits for it: Ray starts them all again


def _at_home(record: dict[str, str | int]) -> Settings:
    """Make a process of Ray's one of ours: without secrets, and with the data folder. Raises DataFolderError."""
    redaction.install()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    for name in [name for name in os.environ if any(word in name.upper() for word in SECRET_VARIABLES)]:
        if name not in _RAY_SECRETS:
            del os.environ[name]
    settings = Settings.from_json(record)
    if not settings.runs_dir.is_dir():
        raise DataFolderError(folder=settings.data_dir, problem=f"it is not there on {socket.gethostname()}")
    return settings


@contextlib.contextmanager
def _interrupted(told: Callable[[], object]) -> Iterator[None]:
    """Have `told` called when the task is cancelled, in place of KeyboardInterrupt wherever it is just then."""
    before = signal.signal(signal.SIGINT, lambda *_: told())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ray() -> Any:
    """Ray, without its types: it is not installed where there is no cluster."""
    return importlib.import_module("ray")


if __name__ == "__main__":
    from tl_core.jobs import ray_driver  # what is sent to the cluster must have a name there

    ray_driver.main()
