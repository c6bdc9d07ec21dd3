"""What can be chosen before training: how long to try, and under "Advanced" everything else."""

from typing import Any, get_args

import gradio as gr

from tl_core.data.imageset import RGB, ImageSet
from tl_core.data.pixels import Framing, PixelStore
from tl_core.models.catalogue import CATALOGUE, Backbone
from tl_core.training.framing import matters, most_elongated, preview, reframed
from tl_core.training.plan import Effort, HeadKind, Switch, Wishes
from tl_ui import figures, thumbnails
from tl_ui.words import say

_EFFORTS: tuple[Effort, ...] = get_args(Effort)
_HEADS: tuple[HeadKind, ...] = get_args(HeadKind)
_SWITCH: tuple[Switch, ...] = get_args(Switch)
_FRAMINGS: tuple[Framing, ...] = ("crop", "pad", "squash")
_FRAMES_SHOWN = 3  # pictures, the most elongated ones
_SIZES = (128, 160, 192, 224, 256, 288, 320, 384)
_DEVICES = ("auto", "cpu", "cuda", "mps")


class Choices:
    """Draws the choices; `inputs` are their components, in the order in which `wishes` takes their values."""

    def __init__(self, t: gr.I18n) -> None:
        self.effort = gr.Radio(
            label=t("train.effort"),
            choices=[(t(f"train.effort.{effort}"), effort) for effort in _EFFORTS],
            value="quick",
            elem_id="effort",
        )
        self._t = t

    def draw_advanced(self) -> None:
        """The panel for those who know what they want."""
        t = self._t
        self.backbone = gr.Dropdown(
            label=t("train.backbone"),
            info=t("train.backbone_info"),
            choices=[(t(f"train.backbone.{name}"), name) for name in ("auto", *(row.id for row in CATALOGUE))],
            value="auto",
            allow_custom_value=True,
            elem_id="backbone",
        )
        with gr.Row():
            self.strategy = self._menu("strategy", ("auto", "frozen", "last", "all"))
            self.head = self._menu("head", ("auto", *_HEADS))
        with gr.Row():
            self.epochs = self._number("epochs")
            self.time_budget = self._number("time_budget")
        with gr.Row():
            sizes: list[Any] = [(t("train.automatic"), 0), *((f"{size} px", size) for size in _SIZES)]
            self.image_size = gr.Dropdown(
                label=t("train.image_size"),
                info=t("train.image_size_info"),
                choices=sizes,
                value=0,
                elem_id="image-size",
            )
            self.schedule = self._menu("schedule", ("auto", "cosine", "one-cycle"))
        self.framing = self._menu("framing", ("auto", *_FRAMINGS))
        self.frames = gr.HTML(elem_id="frames")
        with gr.Row():
            self.balance = self._menu("balance", _SWITCH, words="switch")
            self.mixup = self._menu("mixup", _SWITCH, words="switch")
        self.flips = self._menu("flips", _SWITCH, words="switch")
        self.mirror = gr.HTML(elem_id="mirror")
        self.device = self._menu("device", _DEVICES)

    @property
    def inputs(self) -> list[Any]:
        return [
            self.effort,
            self.backbone,
            self.strategy,
            self.head,
            self.epochs,
            self.time_budget,
            self.image_size,
            self.schedule,
            self.framing,
            self.balance,
            self.mixup,
            self.flips,
            self.device,
        ]

    def _menu(self, name: str, values: tuple[str, ...], *, words: str | None = None) -> gr.Dropdown:
        t = self._t
        return gr.Dropdown(
            label=t(f"train.{name}"),
            info=t(f"train.{name}_info"),
            choices=[(t(f"train.{words or name}.{value}"), value) for value in values],
            value="auto",
            elem_id=name,
        )

    def _number(self, name: str) -> gr.Number:
        t = self._t
        return gr.Number(
            label=t(f"train.{name}"), info=t(f"train.{name}_info"), value=0, minimum=0, precision=0, elem_id=name
        )


def wishes(values: "tuple[Any, ...]") -> tuple[Wishes, str]:
    """The wishes and the device that the values of `Choices.inputs` say; what is none of the choices counts as auto."""
    effort, backbone, strategy, head, epochs, budget, size, schedule, framing, balance, mixup, flips, device = values
    made = Wishes(
        backbone=str(backbone or "auto").strip(),
        effort=_one_of(effort, _EFFORTS),
        strategy=_one_of(strategy, ("auto", "frozen", "last", "all")),
        head=_one_of(head, ("auto", *_HEADS)),
        epochs=_positive(epochs),
        time_budget=_positive(budget),
        image_size=_positive(size) if size in _SIZES else None,
        schedule=_one_of(schedule, ("auto", "cosine", "one-cycle")),
        framing=_one_of(framing, ("auto", *_FRAMINGS)),
        balance=_one_of(balance, _SWITCH),
        flips=_one_of(flips, _SWITCH),
        mixup=_one_of(mixup, _SWITCH),
    )
    return made, _one_of(device, _DEVICES)


def mirror(picture: RGB | None, straight: str, mirrored: str) -> str:
    """One of the user's pictures beside its mirror image, as HTML; nothing without a picture."""
    if picture is None:
        return ""
    return figures.mirror(thumbnails.jpeg(picture), straight, mirrored)


def frames(images: ImageSet, row: Backbone, language: str) -> str:
    """The pictures farthest from square as each framing would show them to `row`, as HTML; a sentence instead where all
    are nearly square."""
    chosen, store = most_elongated(images, _FRAMES_SHOWN), PixelStore(images)
    if not chosen:
        return figures.hint(say(language, "train.framing.none"))
    ways = [(say(language, f"train.framing.{framing}"), reframed(row, framing).preprocessing) for framing in _FRAMINGS]
    shown = [
        (images.pictures[at].name, [(thumbnails.jpeg(preview(store[at], seen)), way) for way, seen in ways])
        for at in chosen
    ]
    key = "train.framing.shown" if matters(images) else "train.framing.few"
    return figures.hint(say(language, key)) + figures.frames(shown)


def _one_of(value: Any, choices: tuple[Any, ...]) -> Any:
    return value if value in choices else choices[0]


def _positive(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and value >= 1 else None
