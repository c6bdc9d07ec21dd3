"""What the page hands out, each below the set or run it belongs to, so that it goes with it.

<data>/web/exports/<id>/<128 random bits>/<name>
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tl_core.bundle.files import to_zip
from tl_core.jobs.janitor import DOWNLOADS
from tl_core.jobs.runs import new_key
from tl_core.settings import Settings

if TYPE_CHECKING:
    from tl_core.bundle.predictor import Prediction

_FIXED = "fixed-"


class Downloads:
    """The download folder of one data folder; Gradio serves what lies in it to whoever has the address."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.web_dir / DOWNLOADS

    def place(self, id: str, name: str) -> Path:
        """A fresh place, which nobody can guess, for a file called `name` of the set or run `id`."""
        folder = self._folder / id / new_key()
        folder.mkdir(parents=True)
        return folder / name

    def fixed_place(self, id: str, name: str) -> Path:
        """The place of a file that is made anew each time it is shown: one for all such of an id, which nobody guesses
        from the address of another download."""
        kept = next((self._folder / id).glob(f"{_FIXED}*"), self._folder / id / f"{_FIXED}{new_key()}")
        kept.mkdir(parents=True, exist_ok=True)
        return kept / name

    def table(self, id: str, rows: "Sequence[tuple[str, Prediction | str]]", class_names: tuple[str, ...]) -> Path:
        """Predictions by file name as a CSV file."""
        from tl_core.bundle.table import predictions_csv

        path = self.place(id, "predictions.csv")
        path.write_text(predictions_csv(rows, class_names), encoding="utf-8")
        return path

    def bundle(self, id: str, bundle: Path) -> Path:
        """The bundle of a run as a zip."""
        return to_zip(bundle, self.place(id, "my-classifier.zip"))

    def copy(self, id: str, file: Path) -> Path:
        """A copy of `file`."""
        return Path(shutil.copyfile(file, self.place(id, file.name)))
