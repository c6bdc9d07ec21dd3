"""All limits and folders in one place, each from an environment variable of the same name with `TL_` before it."""

import os
from dataclasses import dataclass, field, fields
from pathlib import Path

from tl_core.errors import OptionError


def _default_data_dir() -> Path:
    """Where programs keep a user's data on this system (XDG base directories; LOCALAPPDATA on Windows)."""
    base = os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA") or "~/.local/share"
    return Path(base).expanduser() / "transfer-lab"


@dataclass(frozen=True)
class Settings:
    """Limits on what is accepted, and where things are kept. Sizes are bytes unless the name says otherwise."""

    data_dir: Path = field(default_factory=_default_data_dir)
    max_upload: int = 4_000_000_000
    max_entries: int = 50_000
    max_pictures: int = 20_000
    max_unpacked: int = 16_000_000_000
    max_picture_bytes: int = 50_000_000
    max_picture_pixels: int = 40_000_000
    max_classes: int = 1_000
    min_pictures_per_class: int = 2
    max_depth: int = 8
    # Decoding children: more than a phone picture of 40 Mpx needs, less than a decompression bomb takes.
    decoder_memory: int = 2_000_000_000
    decoder_seconds_per_picture: int = 20
    max_reading_seconds: int = 1_800  # for all pictures of an upload
    # Pictures are kept at this short side at most: enough for 224 px networks at any usual crop.
    stored_short_side: int = 320
    stored_long_side: int = 1_280
    free_disk_reserve: int = 1_000_000_000
    network_timeout_seconds: int = 4
    keep_hours: int = 72
    max_batch: int = 500
    # Of a borrowed GPU at a time: Hugging Face counts up to one and a half times as many.
    gpu_slice_seconds: int = 40
    # Runs of one person (one browser, one address for programs) and of all together.
    max_running_per_owner: int = 1
    max_waiting_per_owner: int = 2
    max_waiting: int = 50
    max_run_seconds: int = 21_600  # over all resumes; then a run ends with the best it has
    max_owner_bytes: int = 40_000_000_000  # on disk, sets and runs of one person together
    upload_minutes: int = 120  # that the page keeps a file it was sent, beside the set made of it
    speeds: Path = Path("machine.json")  # in the data folder: what was measured on the machine that trains
    database_url: str = ""  # of the queue; "" is SQLite in the data folder
    ray_address: str = ""  # of a Ray cluster that trains in place of this machine
    ray_cpus: int = 2  # of the cluster, for one run
    ray_gpus: int = 0
    ray_processes: int = 1  # that train one model together, each with those processors and GPUs

    @property
    def sets_dir(self) -> Path:
        return self.data_dir / "sets"

    @property
    def runs_dir(self) -> Path:
        return self.data_dir / "runs"

    @property
    def forgetful(self) -> bool:
        """Whether a restart of this machine loses what is kept: a Space whose data does not lie on a disk it bought
        (huggingface.co/docs/hub/spaces-storage)."""
        return os.environ.get("SYSTEM") == "spaces" and not self.data_dir.is_relative_to("/data")

    @property
    def web_dir(self) -> Path:
        """Where Gradio keeps uploads, and downloads lie."""
        return self.data_dir / "web"

    def to_json(self) -> dict[str, str | int]:
        """For a child process, which need not know the queue; `from_json` is the inverse."""
        kept = [item.name for item in fields(self) if item.name not in _NOT_FOR_CHILDREN]
        return {name: str(v) if isinstance(v := getattr(self, name), Path) else v for name in kept}

    @classmethod
    def from_json(cls, record: dict[str, str | int]) -> "Settings":
        paths = {item.name for item in fields(cls) if item.type is Path}
        chosen = {k: Path(v) if k in paths and isinstance(v, str) else v for k, v in record.items()}
        return cls(**chosen)  # type: ignore[arg-type]

    @classmethod
    def from_environment(cls) -> "Settings":
        """The settings of this process. Raises OptionError naming the variable when one is not a number."""
        chosen: dict[str, Path | int | str] = {}
        for item in fields(cls):
            variable = f"TL_{item.name.upper()}"
            if (text := os.environ.get(variable)) is None:
                continue
            if item.type is not int:
                chosen[item.name] = text if item.type is str else Path(text).expanduser().resolve()
                continue
            if not text.isdecimal():
                raise OptionError(option=variable, found=f"“{text}”", needed="a whole number is needed")
            chosen[item.name] = int(text)
        return cls(**chosen)  # type: ignore[arg-type]


# Its address has a password in it.
_NOT_FOR_CHILDREN = ("database_url",)
# Names of variables that hold secrets; no child process of ours inherits one.
SECRET_VARIABLES = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "CREDENTIAL", "COOKIE", "DATABASE_URL")


def scrubbed_environment(**extra: str) -> dict[str, str]:
    """This process's environment without anything that looks like a secret, for child processes."""
    kept = {k: v for k, v in os.environ.items() if not any(word in k.upper() for word in SECRET_VARIABLES)}
    return kept | extra
