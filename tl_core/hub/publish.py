"""The whole way of a model to the Hub: checked, its ONNX file made, the folder staged, pushed."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tl_core.data.imageset import RGB
from tl_core.events import Progress
from tl_core.exports.record import Export
from tl_core.hub.checks import PushCheck, PushWish, check
from tl_core.hub.push import Pushed, push
from tl_core.models.catalogue import Backbone


def publish(
    bundle: Path,
    backbone: Backbone,
    wish: PushWish,
    into: Path,
    *,
    token: str,
    onnx: Iterator[Progress | Export] | None,
    examples: Callable[[], Sequence[RGB]] = list,
) -> Iterator[Progress | PushCheck | Pushed]:
    """Push the model in `bundle`, which started from `backbone`, by way of the folder `into`. `onnx` are the steps of
    its export (None: without), not begun before the checks have passed; `examples` gives the pictures for the card.

    Raises HubError and BundleError.
    """
    checked = check(wish, backbone, token=token)
    yield checked
    made: Export | None = None
    for step in onnx or ():
        if isinstance(step, Export):
            made = step
        else:
            yield step
    from tl_core.hub.publication import PublicationWish, stage  # brings torch

    about = PublicationWish(
        repo_id=checked.repo_id,
        language="zh" if wish.language == "zh" else "en",
        licence=wish.licence,
        data_note=wish.data_note,
        examples=examples(),
        onnx=Path(made.file) if made is not None and made.file else None,
        agreement=None if made is None else made.agreement,
    )
    yield from push(into, stage(bundle, into, about), wish, checked, token=token)
