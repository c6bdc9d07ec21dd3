"""The model's answers for a whole pile of pictures, in bounded memory, and which of them a person should look at."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tl_core.data.pile import Pile

if TYPE_CHECKING:  # the page starts without torch
    from tl_core.bundle.predictor import Prediction, Predictor

_AT_ONCE = 32  # pictures in memory


def answers(
    predictor: "Predictor", pile: Pile, *, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[dict[int, "Prediction"]]:
    """Predictions with the share of every class by the place in the pile, a few at a time, in order."""
    places = pile.readable
    for start in range(0, len(places), _AT_ONCE):
        if should_stop():
            return
        chosen = places[start : start + _AT_ONCE]
        found = predictor.predict([pile.pixels(at) for at in chosen], top_k=len(predictor.info.class_names))
        yield dict(zip(chosen, found, strict=True))


def doubtful(found: "Mapping[int, Prediction]") -> list[int]:
    """All places, those first where the model is most likely wrong: what is unlike anything taught, the least alike
    first, then the least sure."""

    def doubt(at: int) -> tuple[bool, float, int]:
        one = found[at]
        return (not one.strange, -(one.unknown or 0) if one.strange else one.confidence, at)

    return sorted(found, key=doubt)


def unsure(found: "Sequence[Prediction]", least: float) -> int:
    """How many of the predictions are less sure than `least`, in [0, 1], or strange."""
    return sum(one.strange or one.confidence < least for one in found)
