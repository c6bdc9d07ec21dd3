"""The limited child that reads a data set of the Hub and writes its pictures into a folder. Started by `fetch`.

    python -m tl_core.hub_data.process        (a job as JSON on stdin, JSON lines on stdout)

Address space, open files and the size of a file are limited, and the environment holds no secret; a token comes with
the job only. It needs a network, so unlike the decoding child it may open connections.
"""

import json
import os
import resource
import shutil
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tl_core import dataset_errors
from tl_core.errors import DiskFullError, TLError
from tl_core.hub_data import folder
from tl_core.hub_data.harvest import Harvest
from tl_core.hub_data.repository import Hub, Repository, look_up, plain_failures
from tl_core.hub_data.splits import Choice, choose, choose_converted
from tl_core.settings import Settings

OUT_OF_MEMORY = 70  # exit status
_OPEN_FILES = 128
_EVERY = 0.1  # seconds between two signs of life
# The Hub answers some thousand requests in five minutes: of many small files its own conversion is the quicker way.
_MANY_FILES = 1_000

_lock = threading.Lock()
_last = 0.0


def main() -> None:
    job = json.load(sys.stdin)
    settings = Settings.from_json(job["settings"])
    for limit, value in (
        (resource.RLIMIT_AS, settings.decoder_memory),
        (resource.RLIMIT_FSIZE, max(settings.max_upload, settings.max_picture_bytes)),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    say(started=True)
    try:
        taken = _run(job, settings)
    except TLError as error:
        say(error=type(error).__name__, values=error.values)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    else:
        say(complete=True, pictures=taken)


def _run(job: dict[str, Any], settings: Settings) -> int:
    """Fill the job's folder; how many pictures there are. Raises HubError and IntakeError."""
    into, scratch = Path(job["folder"]), Path(job["scratch"])
    hub = Hub(job["token"], settings.network_timeout_seconds, alive)
    repository = look_up(job["repo"], hub, settings.max_entries)
    say(found=True)
    free = shutil.disk_usage(into).free - settings.free_disk_reserve
    if free <= 0:
        raise DiskFullError(free=f"{(free + settings.free_disk_reserve) / 1e9:.1f} GB")
    harvest = Harvest(into, settings, min(settings.max_unpacked, free), say_now_and_then)
    try:
        with plain_failures(job["repo"]):
            _take(repository, job["config"], scratch, harvest)
    finally:
        harvest.close()
    if not harvest.taken:
        raise dataset_errors.NoPictureColumnError(repo=job["repo"])
    if harvest.lost:
        notice("dataset_lost", count=f"{harvest.lost:,}")
    return harvest.taken


def _take(repository: Repository, config: str, scratch: Path, harvest: Harvest) -> None:
    """By the first way that gives pictures: Parquet, picture files, archives, the Hub's own conversion."""
    shards = [file.path for file in repository.files if file.path.endswith(".parquet")]
    if shards and _take_parquet(repository, choose(repository.name, config, repository.card, shards), harvest):
        return
    pictures, archives = folder.picture_files(repository.files), folder.archive_files(repository.files)
    if len(pictures) > _MANY_FILES or not (pictures or archives) or config:
        with_converted = _with_converted(repository)
        paths = [file.path for file in with_converted.files]
        if paths and _take_parquet(with_converted, choose_converted(repository.name, config, paths), harvest):
            return
    if config:
        choose(repository.name, config, repository.card, [])  # which says that there is none of that name
    if pictures:
        folder.take_files(repository, pictures, harvest, notice)
    elif archives:
        folder.take_archives(repository, archives, scratch, harvest, notice)


def _with_converted(repository: Repository) -> Repository:
    if find_spec("pyarrow") is None:
        return Repository(repository.name, repository.hub, repository.max_entries)
    files = tuple(file for file in repository.converted() if file.path.endswith(".parquet"))
    return Repository(repository.name, repository.hub, repository.max_entries, repository.card, files)


def _take_parquet(repository: Repository, choice: Choice, harvest: Harvest) -> bool:
    if not choice.splits:
        return False
    if find_spec("pyarrow") is None:
        raise dataset_errors.DatasetReaderError(repo=repository.name)
    import pyarrow as pa

    from tl_core.hub_data import parquet

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    done = parquet.take(repository, choice.splits, _listed_features(repository.card, choice.name), harvest, notice)
    if done and choice.name:
        others = ", ".join(name for name in choice.known if name != choice.name)
        notice("dataset_config", repo=repository.name, name=choice.name, others=others)
    return done


def _listed_features(card: dict[str, Any], config: str) -> Any:
    """The features on the card, of one version where it lists several."""
    infos = card.get("dataset_info")
    for info in infos if isinstance(infos, list) else [infos]:
        if isinstance(info, dict) and info.get("config_name", config) in (config, "default"):
            return info.get("features")
    return None


def notice(code: str, **values: str) -> None:
    say(notice=code, values=values)


def say(**line: Any) -> None:
    with _lock:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def say_now_and_then(**line: Any) -> None:
    """A line of progress, unless there was one a moment ago."""
    global _last
    if time.monotonic() - _last > _EVERY or line.get("done") == 0:
        _last = time.monotonic()
        say(**line)


def alive() -> None:
    say_now_and_then(alive=True)


if __name__ == "__main__":
    main()
