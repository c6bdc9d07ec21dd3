"""Part of step 4: try the model on one picture."""

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from tl_core.data.imageset import RGB
from tl_core.data.pixels import PixelStore
from tl_core.errors import PictureError, TLError
from tl_core.evaluation.answers import Answers
from tl_core.evaluation.taught import Taught
from tl_ui import tried
from tl_ui.handlers import PREDICT, bundle_of, speaks
from tl_ui.parts.try_picture import ALARMS, Ask, on_act, read, shown, try_picture
from tl_ui.thumbnails import heated, jpeg
from tl_ui.words import error_sentence, language_of, say
from tl_ui.workspace import Memory, Workspace

if TYPE_CHECKING:  # the page starts without torch
    from tl_core.bundle.predictor import Prediction, Predictor

_LIKES = 5


@dataclass(frozen=True)
class Tried:
    """The last answer, of the model of the run `run`: `pixels` until what is slow to say has been said, and pictures as
    data URLs. A live one has none of them."""

    run: str
    found: "Prediction"
    pixels: RGB | None = None
    picture: str = ""
    why: str = ""
    likes: tuple[tried.Like, ...] = ()


class TryStep:
    """Draws the part and wires it."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        gr.Markdown(t("use.one_upload"), elem_classes=["tl-quiet"])
        part = try_picture("try-one")
        last = gr.State(None)
        on_act(part, self.act, [memory, last], [part, last], **PREDICT | {"show_progress": "hidden"})

    @speaks
    def act(self, memory: Memory, last: Tried | None, request: gr.Request, event: gr.EventData) -> tuple[Any, Any]:
        """What the part shows after an act, and the answer to go on from."""
        ask, language, run = read(event), language_of(request), str(memory.get("run", ""))
        if ask.kind == "back":  # the answer of one model does not stay beside another one
            return (gr.skip(), gr.skip()) if last is not None and last.run == run else (shown(), None)
        predictor = self._work.predictor(bundle_of(self._work, memory, request))
        if last is not None and last.run != run:
            last = None
        try:
            if ask.kind in ("picture", "frame"):
                last = self._looked(run, predictor, ask, language)
            elif ask.kind == "why" and last is not None and last.pixels is not None:
                last = self._explained(last, last.pixels, predictor)
        except TLError as error:
            return shown(refused=error_sentence(language, error)), None
        if last is None or not ask.kind:
            return gr.skip(), gr.skip()
        return self._shown(last, predictor, ask, language), last

    def _looked(self, run: str, predictor: "Predictor", ask: Ask, language: str) -> Tried:
        """The answer about a file or a frame. Raises PictureError."""
        if ask.pixels is not None:
            return Tried(run, predictor.predict([ask.pixels])[0])
        assert ask.file is not None
        pixels = self._work.decode([ask.file])[0]
        if isinstance(pixels, str):
            raise PictureError(name=ask.file.name, reason=say(language, f"skip.{pixels}"))
        return Tried(run, predictor.predict([pixels])[0], pixels, tried.picture_url(pixels))

    def _explained(self, last: Tried, pixels: RGB, predictor: "Predictor") -> Tried:
        """`last` with what the model looked at, and the training pictures most like it."""
        from tl_core.bundle.closeup import features_of, why

        seen = why(predictor, pixels)
        likes = self._likes(last.run, features_of(predictor, [pixels])[0])
        return replace(last, pixels=None, why=tried.picture_url(heated(seen.framed, seen.heat)), likes=likes)

    def _likes(self, key: str, features: Any) -> tuple[tried.Like, ...]:
        """The training pictures nearest to `features` (D,); none when they are gone."""
        run, images = self._work.run(key), self._work.images_of(key)
        taught = None if run is None else Taught.load(run.path)
        if taught is None or images is None:
            return ()
        number_of = {picture.row: number for number, picture in enumerate(images.pictures)}
        found = [number_of[row] for row, _ in taught.nearest(features, k=_LIKES) if row in number_of]
        with contextlib.suppress(OSError, ValueError):  # the pixels went away meanwhile
            store = PixelStore(images)
            return tuple(
                tried.Like(jpeg(store[number]), images.class_names[images.pictures[number].label]) for number in found
            )
        return ()

    def _shown(self, last: Tried, predictor: "Predictor", ask: Ask, language: str) -> dict[str, Any]:
        measured, found = predictor.info.unknown, last.found
        if measured is None or found.unknown is None:
            strange, told = False, tried.no_alarms(language)
        else:
            place = ask.alarms if measured.quantiles else ALARMS[2]
            threshold = measured.threshold if place == ALARMS[2] else measured.threshold_at(place / 100)
            strange = found.unknown > threshold
            told = tried.alarms(place, self._tested(last.run, threshold), language)
        live = not last.picture
        return shown(
            answer=tried.answer(found, strange, language),
            pictures="" if live else tried.pictures(last.picture, last.why, found.label, language),
            likes=tried.likes(last.likes, language),
            alarms=told,
            spoken=tried.spoken(found, strange, live, language),
            measured=measured is not None and bool(measured.quantiles),
            more=last.pixels is not None,
        )

    def _tested(self, key: str, threshold: float) -> tuple[int, int] | None:
        """How many test pictures, and of how many, are stranger than `threshold`; None where that is not kept."""
        run = self._work.run(key)
        answers = None if run is None else Answers.load(run.path)
        scores = None if answers is None else answers.unknown[answers.tested]
        return None if scores is None or not len(scores) else (int((scores > threshold).sum()), len(scores))
