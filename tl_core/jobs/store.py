"""Whose turn it is: every run's state and owner, in a database that several processes share.

SQLite in the data folder, or the PostgreSQL that `TL_DATABASE_URL` names, both through SQLAlchemy. What a run is and
how far it got lies in its folder; from the folders the database can be made anew (`recovery`).

Turns are fair between owners by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a run's tag is one more
than that of its owner's run before it, at least the tag of the run that was begun last; the smallest tag is next, of
equal ones the oldest. Whoever asks for many runs waits for himself, and nobody can be overtaken for ever. Nothing in
here depends on a clock.
"""

import contextlib
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Float, Integer, String, Table

from tl_core.queue_errors import QueueDiskError, QueueFullError, QueueUnreachableError, TooManyRunsError
from tl_core.settings import Settings

State = Literal["queued", "running", "over"]
FILE = "jobs.sqlite"
_BUSY_SECONDS = 15.0  # that a write waits for another process's, or a process that froze may hold its turn
_DISK = re.compile(r"disk (is full|I/O error)|readonly database|unable to open")  # of SQLite's own words
_DAMAGED = re.compile(r"malformed|not a database")
_SIDES = ("", "-wal", "-shm")  # the files of one SQLite database
_METADATA = sa.MetaData()
_RUNS = Table(
    "runs",
    _METADATA,
    Column("id", String(32), primary_key=True),
    Column("owner", String(32), nullable=False, index=True),
    Column("device", String(16), nullable=False),
    Column("seconds", Float, nullable=False),
    Column("state", String(8), nullable=False, index=True),
    Column("tag", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("worker", String(64), nullable=False, default=""),
    Column("beats", BigInteger, nullable=False, default=0),
)
# One row: how many writes there were, and the tag of the run that was begun last. Whoever changes the queue updates it
# first, so that both databases let one after the other do so.
_TURNS = Table(
    "turns",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("tag", BigInteger, nullable=False),
)
log = logging.getLogger("transfer_lab.store")


@dataclass(frozen=True)
class Job:
    """A run as the queue knows it: `id` is its folder's name, `seconds` what it should take, `beats` grow while its
    worker lives."""

    id: str
    owner: str
    device: str = "auto"
    seconds: float = 0.0
    state: State = "queued"
    worker: str = ""
    beats: int = 0


_COLUMNS = [_RUNS.c[name] for name in Job.__dataclass_fields__]


class Store:
    """The queue. Every method raises QueueUnreachableError when the database does not answer."""

    def __init__(self, settings: Settings, *, mend: bool = False) -> None:
        """With `mend`, an SQLite file that is none any more is moved aside and a new one begun: for the process that
        starts the others, before it does."""
        self._settings = settings
        file = None if settings.database_url else settings.data_dir / FILE
        self._engine = _engine(settings, file)
        with self._answering():
            if file is not None:
                settings.data_dir.mkdir(parents=True, exist_ok=True)
                if mend and not _sound(self._engine):
                    self._engine.dispose()
                    _set_aside(file)
            self._prepare()

    def submit(self, job: Job) -> None:
        """Put a run in the queue; nothing happens when it is there already. Raises TooManyRunsError and
        QueueFullError."""
        with self._turn() as (db, number):
            if _found(db, job.id) is None:
                self._admit(db, job)
                row = {**_values(job), "tag": _tag(db, job.owner), "place": number}
                db.execute(sa.insert(_RUNS).values(row))

    def again(self, id: str, device: str) -> None:
        """Queue a run that nobody works on once more, behind those that wait; what its last worker may still say of it
        counts for nothing. Raises TooManyRunsError and QueueFullError."""
        with self._turn() as (db, number):
            job = _found(db, id)
            if job is None or job.state == "queued":
                return
            if job.state == "over":  # else it has its place among its owner's
                self._admit(db, job)
            changed = {"state": "queued", "device": device, "tag": _tag(db, job.owner), "place": number}
            db.execute(sa.update(_RUNS).where(_RUNS.c.id == id).values(**changed, worker=""))

    def admit(self, id: str) -> None:
        """Raise what would speak against queueing that run, which is over, once more: TooManyRunsError or
        QueueFullError."""
        with self._answering(), self._engine.connect() as db:
            job = _found(db, id)
            if job is not None and job.state == "over":
                self._admit(db, job)

    def take(self, worker: str, *, except_for: str = "", only: str = "", besides: Collection[str] = ()) -> Job | None:
        """The next run, now `worker`'s; None when nobody's turn has come. Runs on the device `except_for` and those of
        the ids `besides` are left alone; `only` asks for that one run."""
        with self._answering(), self._engine.connect() as db:
            if (
                self._next(db, except_for, only, besides) is None
            ):  # who only asks, several times a second, writes nothing
                return None
        with self._turn() as (db, _):
            if (found := self._next(db, except_for, only, besides)) is None:
                return None
            job, tag = found
            values = {"state": "running", "worker": worker, "beats": 0}
            db.execute(sa.update(_RUNS).where(_RUNS.c.id == job.id).values(values))
            db.execute(sa.update(_TURNS).values(tag=tag))
            return job

    def give_back(self, id: str, worker: str) -> None:
        """A run that `worker` leaves or has lost: it keeps its place, so it is the next."""
        with self._turn() as (db, _):
            mine = (_RUNS.c.id == id, _RUNS.c.state == "running", _RUNS.c.worker == worker)
            db.execute(sa.update(_RUNS).where(*mine).values(state="queued", worker=""))

    def lost(self, worker: str) -> list[str]:
        """`worker` is dead: give back what it was doing; the ids of that."""
        found = [job.id for job in self.running() if job.worker == worker]
        for id in found:
            self.give_back(id, worker)
        return found

    def finish(self, id: str, worker: str) -> None:
        """The run is over, and was `worker`'s."""
        with self._turn() as (db, _):
            mine = (_RUNS.c.id == id, _RUNS.c.worker == worker)
            db.execute(sa.update(_RUNS).where(*mine).values(state="over", worker=""))

    def withdraw(self, id: str) -> bool:
        """Take a waiting run out of the queue; False when it is not waiting (any more)."""
        with self._turn() as (db, _):
            waiting = (_RUNS.c.id == id, _RUNS.c.state == "queued")
            begun = sa.select(_TURNS.c.tag).scalar_subquery()  # a turn not taken must not make later ones wait
            return bool(db.execute(sa.update(_RUNS).where(*waiting).values(state="over", tag=begun)).rowcount)

    def restore(self, job: Job) -> None:
        """Enter a run as its folder has it, whatever the limits: the database does not know it, or holds it for over
        though it is not."""
        with self._turn() as (db, number):
            found = _found(db, job.id)
            if found is not None and (found.state != "over" or job.state == "over"):
                return
            row = {**_values(job), "tag": _tag(db, job.owner), "place": number}
            db.execute(sa.delete(_RUNS).where(_RUNS.c.id == job.id))
            db.execute(sa.insert(_RUNS).values(row))

    def forget(self, id: str) -> None:
        """The run is deleted."""
        with self._turn() as (db, _):
            db.execute(sa.delete(_RUNS).where(_RUNS.c.id == id))

    def beat(self, worker: str) -> None:
        """`worker` is alive."""
        with self._answering(), self._engine.begin() as db:
            mine = (_RUNS.c.worker == worker, _RUNS.c.state == "running")
            db.execute(sa.update(_RUNS).where(*mine).values(beats=_RUNS.c.beats + 1))

    def waiting(self) -> list[Job]:
        """Runs that wait, in the order of their turns."""
        with self._answering(), self._engine.connect() as db:
            return [job for job, _ in _line(db)]

    def running(self) -> list[Job]:
        return self._jobs(_RUNS.c.state == "running")

    def of_owner(self, owner: str) -> list[Job]:
        """Every run of that owner that is not deleted."""
        return self._jobs(_RUNS.c.owner == owner)

    def all(self) -> list[Job]:
        return self._jobs()

    def find(self, id: str) -> Job | None:
        with self._answering(), self._engine.connect() as db:
            return _found(db, id)

    def close(self) -> None:
        self._engine.dispose()

    def _jobs(self, *which: sa.ColumnElement[bool]) -> list[Job]:
        with self._answering(), self._engine.connect() as db:
            rows = db.execute(sa.select(*_COLUMNS).where(*which).order_by(_RUNS.c.place))
            return [Job(*row) for row in rows]

    def _next(self, db: sa.Connection, except_for: str, only: str, besides: Collection[str]) -> tuple[Job, int] | None:
        """The first of those that wait whose owner may have one more running, and its tag."""
        for job, tag in _line(db):
            if job.device == except_for or job.id in besides or (only and job.id != only):
                continue
            running = _count(db, _RUNS.c.owner == job.owner, _RUNS.c.state == "running")
            if running < self._settings.max_running_per_owner:
                return job, tag
        return None

    def _admit(self, db: sa.Connection, job: Job) -> None:
        """Raise what speaks against one more run of its owner."""
        own = self._settings.max_running_per_owner + self._settings.max_waiting_per_owner
        found = _count(db, _RUNS.c.owner == job.owner, _RUNS.c.state != "over")
        if found >= own:
            raise TooManyRunsError(found=found, limit=own)
        line = [waiting for waiting, _ in _line(db)]
        if len(line) >= self._settings.max_waiting:
            minutes = max(1, round(sum(waiting.seconds for waiting in line) / len(line) / 60))
            raise QueueFullError(found=len(line), minutes=minutes)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[tuple[sa.Connection, int]]:
        """A transaction that no other process's change comes between, and its number."""
        with self._answering(), self._engine.begin() as db:
            counted = sa.update(_TURNS).values(number=_TURNS.c.number + 1).returning(_TURNS.c.number)
            yield db, int(db.execute(counted).scalar_one())

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            log.error("the queue does not answer: %s", type(cause).__name__)
            raise (QueueDiskError if _DISK.search(str(cause)) else QueueUnreachableError) from None

    def _prepare(self) -> None:
        """Make the tables, unless they are there; several processes may do so at once."""
        for attempt in range(3):
            try:
                _METADATA.create_all(self._engine)
                with self._engine.begin() as db:
                    if db.execute(sa.select(_TURNS.c.id)).first() is None:
                        db.execute(sa.insert(_TURNS).values(id=1, number=0, tag=0))
                return
            except sa.exc.DBAPIError:  # another process made them just now
                if attempt == 2:
                    raise


def _engine(settings: Settings, file: Path | None) -> sa.Engine:
    if file is None:
        url = sa.make_url(settings.database_url)
        if url.drivername in ("postgres", "postgresql"):  # as hosts of databases write it
            url = url.set(drivername="postgresql+psycopg")
        return sa.create_engine(url, pool_pre_ping=True, connect_args=_patience(url))
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(file)), connect_args={"timeout": _BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def durable(raw: Any, _record: Any) -> None:
        """What was said to be queued is so even after a power cut. Where the file system cannot share memory, SQLite
        stays with its older journal by itself (https://sqlite.org/wal.html)."""
        with contextlib.suppress(Exception):  # a damaged file: the first real question tells
            raw.execute("PRAGMA journal_mode=WAL")
            raw.execute("PRAGMA synchronous=FULL")

    return engine


def _patience(url: sa.URL) -> dict[str, Any]:
    """Bounds on every wait, where PostgreSQL or the network would wait for ever: for a machine that does not answer,
    and for one that froze in the middle of its turn, which then is taken from it. What the address says is kept."""
    if url.get_backend_name() != "postgresql":
        return {}
    busy = round(_BUSY_SECONDS * 1000)
    limits = {
        "connect_timeout": 5,
        "tcp_user_timeout": busy,
        "options": f"-c lock_timeout={busy} -c idle_in_transaction_session_timeout={busy}",
    }
    return {name: value for name, value in limits.items() if name not in url.query}


def _set_aside(file: Path) -> None:
    number = len(list(file.parent.glob(f"{file.name}.damaged-*[0-9]")))
    for side in _SIDES:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{file}{side}").rename(f"{file}.damaged-{number}{side}")
    log.warning("the queue's file was damaged; it is kept as %s.damaged-%d and made anew", file.name, number)


def _sound(engine: sa.Engine) -> bool:
    """Whether SQLite finds its file in order. What only keeps it from looking, as a full disk, is raised."""
    try:
        with engine.connect() as db:
            return bool(db.exec_driver_sql("PRAGMA quick_check").scalar() == "ok")
    except sa.exc.DBAPIError as error:
        if _DAMAGED.search(str(error.orig)):
            return False
        raise


def _line(db: sa.Connection) -> Sequence[tuple[Job, int]]:
    """Those that wait and their tags, the next one first."""
    chosen = sa.select(*_COLUMNS, _RUNS.c.tag).where(_RUNS.c.state == "queued")
    return [(Job(*row[:-1]), row[-1]) for row in db.execute(chosen.order_by(_RUNS.c.tag, _RUNS.c.place))]


def _tag(db: sa.Connection, owner: str) -> int:
    """The tag of a new run of that owner."""
    begun = db.execute(sa.select(_TURNS.c.tag)).scalar_one()
    before = db.execute(sa.select(sa.func.max(_RUNS.c.tag)).where(_RUNS.c.owner == owner)).scalar()
    return max(int(begun), -1 if before is None else int(before) + 1)


def _count(db: sa.Connection, *which: sa.ColumnElement[bool]) -> int:
    return int(db.execute(sa.select(sa.func.count()).select_from(_RUNS).where(*which)).scalar_one())


def _found(db: sa.Connection, id: str) -> Job | None:
    row = db.execute(sa.select(*_COLUMNS).where(_RUNS.c.id == id)).first()
    return None if row is None else Job(*row)


def _values(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in Job.__dataclass_fields__}
