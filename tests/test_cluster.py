"""Runs on a Ray cluster: a real one of processes here, on loopback."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from tests.conftest import Zipper
from tests.test_resume import drawn, plan_of, settled_like
from tl_core.bundle.bundle import load
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import prepare
from tl_core.data.understand import load as load_set
from tl_core.events import Event, Finished, Progress, Started
from tl_core.jobs.ray_driver import Cluster, ClusterMissingError, Dispatch, Outcome, RayDispatcher, slots
from tl_core.jobs.recovery import job_of
from tl_core.jobs.runs import ATTEMPTS, EventLog, Request, RunFolder, new_key
from tl_core.jobs.store import Job, Store
from tl_core.jobs.worker import MAX_ATTEMPTS, take
from tl_core.settings import Settings
from tl_core.training.plan import Plan, Wishes

ROOT = Path(__file__).parents[1]
LONG = Wishes(strategy="all", epochs=2000, image_size=64, flips="off")
QUICK = Plan(Wishes(), "built_in", "auto", 1.0)
_NODE = {
    "num_cpus": 2,
    "num_gpus": 0,
    "object_store_memory": 100_000_000,
    "node_ip_address": "127.0.0.1",
    "include_dashboard": False,
}


@contextmanager
def cluster_of(machines: int) -> Iterator[Any]:
    """That many pretended machines of two processors each; gives Ray's `Cluster`."""
    pytest.importorskip("ray")
    # It tells nobody that it was used, and really stays on loopback: elsewhere it listens on every address.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    from ray.cluster_utils import Cluster as RayCluster

    Path("/tmp/ray").mkdir(exist_ok=True)  # where it notes its address, whatever folder it is given
    with tempfile.TemporaryDirectory(prefix="tl-ray-", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        cluster = RayCluster(initialize_head=True, head_node_args={**_NODE, "temp_dir": scratch})
        try:
            for _ in range(machines - 1):
                cluster.add_node(**_NODE)
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with cluster_of(1) as one:
        yield one


@pytest.fixture
def there(settings: Settings, cluster: Any) -> Settings:
    return replace(settings, ray_address=cluster.address, ray_cpus=1)


@pytest.fixture
def store(there: Settings) -> Iterator[Store]:
    made = Store(there)
    yield made
    made.close()


def queued(settings: Settings, store: Store, images: ImageSet, plan: Plan = QUICK, owner: str = "") -> RunFolder:
    key = new_key()
    run = RunFolder.create(settings, key, Request(str(images.folder), plan, owner=owner or key[:8]))
    job = job_of(run)
    assert job is not None
    store.submit(job)
    return run


def until(condition: Callable[[], Any], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def events(run: RunFolder) -> list[Event]:
    return EventLog(run.path).new()


def processes_with(run: RunFolder) -> list[psutil.Process]:
    """Those that hold the lock on a run."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(Path(file.path).parent == run.path for file in process.open_files()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_without_ray_it_says_what_to_install(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tl_core.jobs.ray_driver.importlib.util.find_spec", lambda name: None)
    store = Store(settings)
    with pytest.raises(ClusterMissingError, match=r"pip install \"ray\[default\]\""):
        RayDispatcher(replace(settings, ray_address="127.0.0.1:1"), store).start()
    store.close()


@pytest.mark.parametrize(
    ("machines", "wanted", "room"),
    [
        ([{"CPU": 4.0}, {"CPU": 3.0}], {"ray_cpus": 2}, 3),  # nobody gets one processor of each
        ([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}], {"ray_cpus": 2, "ray_gpus": 1}, 1),
        ([{"CPU": 2.0}, {"CPU": 2.0}], {"ray_cpus": 2, "ray_processes": 2}, 1),  # these may be spread
        ([{"CPU": 2.0}], {"ray_cpus": 2, "ray_processes": 2}, 0),
        ([{"CPU": 0.0}], {"ray_cpus": 1}, 0),
        ([], {}, 0),
    ],
    ids=["by machine", "gpu", "together", "too few", "a machine of the page", "nobody"],
)
def test_there_is_room_for_what_fits(
    settings: Settings, machines: list[dict[str, float]], wanted: dict[str, int], room: int
) -> None:
    assert slots(machines, replace(settings, **wanted)) == room


class Hanging(Cluster):
    """A cluster whose tasks begin with their runs and never end by themselves."""

    def __init__(self) -> None:
        self.killed = list[str]()

    def slots(self) -> int:
        return 1

    def begin(self, folder: Path) -> str:
        assert RunFolder(folder).count_attempt() <= MAX_ATTEMPTS
        return str(folder)

    def ended(self, tasks: Sequence[str], seconds: float) -> list[str]:
        return [task for task in tasks if task in self.killed]

    def outcome(self, task: str) -> Outcome:
        self.killed.remove(task)
        return "left"  # as of any that was cancelled

    def interrupt(self, task: str, *, hard: bool = False) -> None:
        self.killed.append(task)


def test_a_run_that_hangs_on_the_cluster_does_not_begin_anew_for_ever(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tl_core.jobs.ray_driver.OVERTIME_SECONDS", 0.0)
    short = replace(settings, max_run_seconds=0)
    store = Store(short)
    run = RunFolder.create(short, new_key(), Request("set", QUICK))
    store.submit(Job(run.path.name, ""))
    dispatch = Dispatch(short, store, Hanging(), "d")
    for begun in range(1, MAX_ATTEMPTS + 1):
        while store.waiting():
            dispatch.turn()
        assert (run.path / ATTEMPTS).stat().st_size == begun, "what was given up for hanging counts"
        while store.running() and begun < MAX_ATTEMPTS:
            dispatch._not_before = float("inf")  # not the next one yet
            dispatch.turn()
        dispatch._not_before = 0.0
    store.close()


@pytest.mark.slow
def test_runs_go_to_the_cluster_and_nothing_secret_with_them(
    make_zip: Zipper,
    read_set: Callable[[Path], ImageSet],
    there: Settings,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hosthosthost")
    images = read_set(make_zip({"star": 12, "circle": 12}))
    runs = [queued(there, store, images) for _ in range(2)]
    dispatcher = RayDispatcher(there, store)
    dispatcher.start()
    try:
        until(lambda: any(processes_with(run) for run in runs))
        for process in [process for run in runs for process in processes_with(run)]:
            assert "hf_hosthosthost" not in str(process.environ()) and "ray" in str(process.cmdline())
        until(lambda: all(run.over() for run in runs))
        until(lambda: not store.running())
        assert dispatcher.healthy
    finally:
        dispatcher.close()
    for run in runs:
        assert [type(event) for event in events(run)].count(Finished) == 1
        load(run.path / "bundle")
    assert store.waiting() == []


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of some seconds that was left alone, in this process."""
    folder = tmp_path_factory.mktemp("straight")
    settings = Settings(data_dir=folder / "data", free_disk_reserve=0)
    for _ in prepare(drawn(folder / "sides.zip", range(60)), folder / "set", settings):
        pass
    images = load_set(folder / "set")
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), plan_of(images, settings)))
    assert take(run, settings) == "over"
    return run


@pytest.fixture
def sides(straight: RunFolder) -> ImageSet:
    """The set it was made from."""
    return load_set(Path(straight.request().set_folder))


@contextmanager
def dispatching(settings: Settings, store: Store) -> Iterator[RayDispatcher]:
    dispatcher = RayDispatcher(settings, store)
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        dispatcher.close()


def like(straight: RunFolder, settings: Settings, store: Store, sides: ImageSet) -> RunFolder:
    """A run that must come to the weights of `straight`."""
    run = queued(settings, store, sides, plan_of(sides, settings))
    settled_like(straight.path, run.path)
    return run


def tuning(run: RunFolder) -> bool:
    return any(isinstance(event, Progress) and event.stage == "tuning" for event in events(run))


def difference(one: RunFolder, two: RunFolder) -> float:
    """The largest difference between two models' weights, each beside the largest of its tensor."""
    a, b = (load_file(run.path / "bundle" / "model.safetensors") for run in (one, two))
    kinds = [name for name, value in a.items() if value.is_floating_point()]
    return max(float((a[name] - b[name]).abs().max() / (a[name].abs().max() + 1e-4)) for name in kinds)


@pytest.mark.slow
def test_case_114_a_process_of_the_cluster_that_is_killed_is_replaced_by_ray(
    straight: RunFolder, sides: ImageSet, there: Settings, store: Store
) -> None:
    run = like(straight, there, store, sides)
    with dispatching(there, store):
        until(lambda: tuning(run))
        (holder,) = processes_with(run)
        holder.kill()
        until(run.over)
        until(lambda: not store.running())
    kinds = [type(event) for event in events(run)]
    assert kinds.count(Finished) == 1 and kinds.count(Started) == 2
    assert difference(straight, run) == 0


@pytest.mark.slow
def test_case_122_when_a_page_closes_its_runs_are_left_in_order_and_another_goes_on(
    straight: RunFolder, sides: ImageSet, there: Settings, store: Store
) -> None:
    run = like(straight, there, store, sides)
    with dispatching(there, store) as dispatcher:
        until(lambda: tuning(run))
        begun = time.monotonic()
        dispatcher.close()
        assert time.monotonic() - begun < 8
    assert [job.id for job in store.waiting()] == [run.path.name] and not run.over()
    assert not (run.path / ATTEMPTS).exists(), "it was not the run's fault"
    until(run.free, seconds=10)
    with dispatching(there, store):
        until(run.over)
    assert difference(straight, run) == 0


@pytest.mark.slow
def test_case_120_a_page_that_is_killed_takes_its_dispatcher_with_it_and_leaves_its_runs(
    straight: RunFolder, sides: ImageSet, there: Settings, store: Store
) -> None:
    code = (
        "import json, sys, time; from tl_core.jobs.ray_driver import *;"
        "settings = Settings.from_json(json.loads(sys.argv[1]));"
        "RayDispatcher(settings, Store(settings)).start(); time.sleep(600)"
    )
    run = like(straight, there, store, sides)
    page = subprocess.Popen([sys.executable, "-c", code, json.dumps(there.to_json())], cwd=ROOT)
    until(lambda: tuning(run))
    page.kill()
    page.wait()
    until(lambda: [job.id for job in store.waiting()] == [run.path.name], seconds=15)
    assert not run.over()
    with dispatching(there, store):
        until(run.over)
    assert difference(straight, run) == 0


@pytest.mark.slow
def test_case_108_stop_reaches_a_run_on_the_cluster(sides: ImageSet, there: Settings, store: Store) -> None:
    run = queued(there, store, sides, replace(plan_of(sides, there), wishes=LONG))
    with dispatching(there, store):
        until(lambda: tuning(run))
        run.ask_to_stop()
        until(run.over, seconds=15)
        until(lambda: not store.running())
    last = events(run)[-1]
    assert isinstance(last, Finished) and last.reason == "stopped"


@pytest.mark.slow
def test_processes_that_train_together_give_the_result_of_one_to_rounding(
    straight: RunFolder, sides: ImageSet, there: Settings, store: Store
) -> None:
    both = replace(there, ray_processes=2)
    run = like(straight, both, store, sides)
    with dispatching(both, store):
        until(lambda: tuning(run), seconds=200)
        assert len(store.running()) == 1
        until(run.over, seconds=200)
        until(lambda: not store.running(), seconds=60)
    assert [type(event) for event in events(run)].count(Finished) == 1
    assert not (run.path / "ray").exists()
    assert difference(straight, run) < 2e-2, "shared gradients may be summed in another order"
    scores = [json.loads((r.path / "report.json").read_text())["evaluation"]["accuracy"] for r in (straight, run)]
    assert scores[0] == pytest.approx(scores[1], abs=0.05)
