"""What one person has on this machine: found by the hash of the key that only they hold, measured, and deleted."""

from collections.abc import Iterator
from pathlib import Path

from tl_core.jobs.janitor import bytes_of, delete_run, delete_set
from tl_core.jobs.runs import REMOVED, STOP, RunFolder, is_held
from tl_core.jobs.store import Store
from tl_core.queue_errors import OwnerFullError
from tl_core.settings import Settings

OWNER = "owner.txt"  # in folders of sets and of batches; runs say it in their request


def sign(folder: Path, owner: str) -> None:
    """Write down whose a folder is."""
    (folder / OWNER).write_text(owner, encoding="ascii")


class Belongings:
    """All that is whose in one data folder."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store

    def sets(self, owner: str) -> list[Path]:
        """Folders of sets that are that owner's."""
        return list(self._signed(self._settings.sets_dir, owner))

    def runs(self, owner: str) -> list[RunFolder]:
        """Runs that are that owner's; none for nobody, whom those of before there were owners belong to."""
        jobs = self._store.of_owner(owner) if owner else []
        found = [RunFolder(self._settings.runs_dir / job.id) for job in jobs]
        return [run for run in found if run.path.is_dir() and not (run.path / REMOVED).exists()]

    def may_delete(self, owner: str, run: RunFolder) -> bool:
        """Whether a run is that owner's or nobody's: a link to look at somebody's run is no leave to delete it."""
        job = self._store.find(run.path.name)
        return job is None or job.owner in ("", owner)

    def bytes(self, owner: str) -> int:
        """What they take on the disk."""
        return sum(bytes_of(folder) for folder in (*self.sets(owner), *(run.path for run in self.runs(owner))))

    def admit(self, owner: str) -> None:
        """Raise OwnerFullError when that owner may not add more."""
        limit = self._settings.max_owner_bytes
        if owner and (found := self.bytes(owner)) > limit:
            raise OwnerFullError(found=f"{found / 1e9:.1f} GB", limit=f"{limit / 1e9:.1f} GB")

    def delete(self, owner: str) -> list[RunFolder]:
        """Delete everything of that owner. Gives the runs that a process works on: they are gone for everybody, and
        their folders go when it lets go of them, by `delete_run` or the next sweep. What cannot be deleted keeps
        nothing else from going; the first OSError is raised at the end."""
        left, failed = list[RunFolder](), list[OSError]()
        for run in self.runs(owner):
            try:
                if not delete_run(self._settings, self._store, run):
                    left.append(run)
            except OSError as error:
                failed.append(error)
        for folder in self.sets(owner):
            try:
                self._delete_set(folder)
            except OSError as error:
                failed.append(error)
        for folder in self._signed(self._settings.data_dir / "scratch", owner):
            delete_set(self._settings, folder)
        if failed:
            raise failed[0]
        return left

    def _delete_set(self, folder: Path) -> None:
        if is_held(folder):  # whoever reads into it ends then, and clears up after itself
            (folder / STOP).touch()
            (folder / OWNER).unlink(missing_ok=True)
        else:
            delete_set(self._settings, folder)

    def _signed(self, parent: Path, owner: str) -> Iterator[Path]:
        if not owner:
            return
        for file in parent.glob(f"*/{OWNER}"):
            try:
                if file.read_text(encoding="ascii") == owner:
                    yield file.parent
            except (OSError, ValueError):
                continue
