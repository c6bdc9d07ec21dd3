"""Part of step 4: the model's answers for many pictures at once."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from tl_core.errors import OptionError
from tl_ui import figures
from tl_ui.handlers import PREDICT, bundle_of, speaks
from tl_ui.try_step import PICTURES
from tl_ui.words import language_of, say
from tl_ui.workspace import Memory, Workspace

if TYPE_CHECKING:  # the page starts without torch
    from tl_core.bundle.predictor import Prediction

_COLUMNS = ("file", "class", "confidence")


class BatchStep:
    """Draws the part and wires it."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        many = gr.File(
            label=t("use.many_upload"),
            show_label=False,
            file_types=PICTURES,
            file_count="multiple",
            elem_id="many-upload",
            height=150,
        )
        answers = gr.HTML(elem_id="many-answers")
        csv = gr.DownloadButton(t("use.csv"), visible=False, elem_id="csv")
        many.change(self.predict_many, [many, memory], [answers, csv], **PREDICT)

    @speaks
    def predict_many(self, files: list[str] | None, memory: Memory, request: gr.Request) -> tuple[Any, Any]:
        """Answers for many files, in their order, as a table and as a CSV file to download."""
        if not files:
            return "", gr.update(visible=False)
        language, limit = language_of(request), self._work.settings.max_batch
        if len(files) > limit:
            needed = say(language, "use.many_limit", limit=limit)
            raise OptionError(option=say(language, "use.many"), found=len(files), needed=needed)
        paths = [Path(file) for file in files]
        names, results = self._work.predict_files(bundle_of(self._work, memory, request), paths)
        named = [
            (path.name, say(language, f"skip.{result}") if isinstance(result, str) else result)
            for path, result in zip(paths, results, strict=True)
        ]
        rows = [
            [name, result, ""] if isinstance(result, str) else [name, result.label, _sure(result, language)]
            for name, result in named
        ]
        headers = [say(language, f"use.col_{column}") for column in _COLUMNS]
        table = self._work.export_csv(named, names)
        return figures.answers_table(headers, rows), gr.update(value=str(table), visible=True)


def _sure(found: "Prediction", language: str) -> str:
    """How sure the model is of its answer, in a word or two."""
    return say(language, "use.strange_short") if found.strange else f"{found.confidence:.0%}"
