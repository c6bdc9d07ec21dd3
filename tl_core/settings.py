"""All limits and folders in one place, each from an environment variable of the same name with `TL_` before it."""

import os
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Limits on what is accepted, and where things are kept. Sizes are bytes unless the name says otherwise."""

    data_dir: Path = Path(tempfile.gettempdir()) / "transfer-lab"
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
    # Pictures are kept at this short side at most: enough for 224 px networks at any usual crop.
    stored_short_side: int = 320
    stored_long_side: int = 1_280
    free_disk_reserve: int = 1_000_000_000
    network_timeout_seconds: int = 4
    keep_hours: int = 72
    max_batch: int = 500

    @property
    def sets_dir(self) -> Path:
        return self.data_dir / "sets"

    @property
    def runs_dir(self) -> Path:
        return self.data_dir / "runs"

    def to_json(self) -> dict[str, str | int]:
        """For a child process; `from_json` is the inverse."""
        return {field.name: str(v) if isinstance(v := getattr(self, field.name), Path) else v for field in fields(self)}

    @classmethod
    def from_json(cls, record: dict[str, str | int]) -> "Settings":
        chosen = {k: Path(v) if isinstance(v, str) else v for k, v in record.items()}
        return cls(**chosen)  # type: ignore[arg-type]

    @classmethod
    def from_environment(cls) -> "Settings":
        """The settings of this process. Raises ValueError naming the variable when one is not a number."""
        chosen: dict[str, Path | int] = {}
        for field in fields(cls):
            variable = f"TL_{field.name.upper()}"
            if (text := os.environ.get(variable)) is None:
                continue
            if field.name == "data_dir":
                chosen[field.name] = Path(text).expanduser().resolve()
                continue
            if not text.isdecimal():
                raise ValueError(f"{variable} must be a whole number, not {text!r}")
            chosen[field.name] = int(text)
        return cls(**chosen)  # type: ignore[arg-type]


# Names of variables that hold secrets; no child process of ours inherits one.
SECRET_VARIABLES = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "CREDENTIAL", "COOKIE")


def scrubbed_environment(**extra: str) -> dict[str, str]:
    """This process's environment without anything that looks like a secret, for child processes."""
    kept = {k: v for k, v in os.environ.items() if not any(word in k.upper() for word in SECRET_VARIABLES)}
    return kept | extra
