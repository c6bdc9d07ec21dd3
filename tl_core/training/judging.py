"""What a run finds out about its model: scores on the pictures that examined it, what is strange to it, which answers
are likely; and the second look at the whole set. Nothing here changes a model.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tl_core.data.imageset import ImageSet
from tl_core.evaluation.answers import Answers
from tl_core.evaluation.conformal import Likely
from tl_core.evaluation.intervals import wilson
from tl_core.evaluation.metrics import Evaluation, evaluate
from tl_core.evaluation.taught import Taught
from tl_core.evaluation.unknown import Unknown
from tl_core.events import Event, Progress
from tl_core.training.second_look import Looked, Pictures, SecondLook, look_again
from tl_core.training.strangeness import measured, pooled_features

# (n,) pictures by number -> (n, D) features, or (n, T, D) maps
Features = Callable[[Sequence[int]], Tensor]


@dataclass(frozen=True)
class Judgement:
    """Of one model: its scores, from where on a picture is strange to it, its likely classes; the (n, C) answers to the
    n pictures that examined it and their unknown scores (n,); and the features of what taught it."""

    evaluation: Evaluation
    unknown: Unknown | None
    likely: Likely | None
    probabilities: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    taught: Taught


class Judging:
    """Judges models of a set by the pictures at `exam`, which were taught with those at `fit`."""

    def __init__(self, images: ImageSet, fit: Sequence[int], exam: Sequence[int], seed: int) -> None:
        self._images, self._fit, self._exam, self._seed = images, fit, exam, seed
        self._labels = [picture.label for picture in images.pictures]
        self._groups = [picture.group for picture in images.pictures]

    def judge(
        self, logits: Tensor, features: Features, *, likely: float | None, temperature: float | None = None
    ) -> Judgement:
        """By (n, C) logits of the exam, which were divided by `temperature` to calibrate them. `likely` is the
        threshold of `evaluation.conformal` found on pictures that neither taught nor examine."""
        labels, groups = [self._labels[i] for i in self._exam], [self._groups[i] for i in self._exam]
        probabilities, before = logits.softmax(1).numpy(), None
        if temperature is not None:
            before = (logits * temperature).softmax(1).numpy()
        evaluation = evaluate(
            probabilities, labels, self._images.class_names, pictures=self._exam, groups=groups, uncalibrated=before
        )
        strange = measured(self._images, self._fit, self._exam, features, self._seed)
        rows = [self._images.pictures[i].row for i in strange.taught]
        return Judgement(
            evaluation,
            strange.unknown,
            None if likely is None else Likely(likely).tested(probabilities, labels),
            probabilities,
            strange.scores,
            Taught.of(rows, strange.features),
        )

    def look(
        self, features: Features, *, weights: Sequence[float] | None, should_stop: Callable[[], bool]
    ) -> Generator[Event, None, SecondLook | None]:
        """The second look at everything that was seen, on the features of the untrained network; None when stopped."""
        every = self._every()
        known = Pictures(
            pooled_features(features, every).numpy(),
            [self._labels[i] for i in every],
            [self._groups[i] for i in every],
            len(self._images.class_names),
        )
        at = {i: number for number, i in enumerate(every)}
        fit, exam = (np.array([at[i] for i in side], dtype=np.int64) for side in (self._fit, self._exam))
        steps = look_again(known, fit, exam, seed=self._seed, class_weights=weights, should_stop=should_stop)
        for step in steps:
            if isinstance(step, Looked):
                yield Progress("evaluating", step.done, step.total)
            else:
                return step
        return None

    def crossed(self, look: SecondLook) -> Evaluation | None:
        """Scores over all pictures and rounds of cross-validation; what is counted is that of one ordinary round."""
        if look.crossed is None:
            return None
        every = self._every()
        groups = [self._groups[i] for i in every]
        labels = [self._labels[i] for i in every]
        found = evaluate(look.crossed, labels, self._images.class_names, pictures=every, groups=groups)
        accuracy = float(np.mean(look.accuracies))
        return replace(found, accuracy=accuracy, interval=wilson(accuracy, len(set(groups))))

    def answers(self, judgement: Judgement, look: SecondLook | None, *, crossed: bool) -> Answers:
        """What was answered for every picture; only for those of the exam where there was no second look."""
        every, exam = (self._every() if look is not None else list(self._exam)), list(self._exam)
        at = {i: number for number, i in enumerate(every)}
        places = [at[i] for i in exam]
        probabilities = np.zeros((len(every), len(self._images.class_names)), dtype=np.float32)
        if look is not None:
            probabilities[:] = look.probabilities
        probabilities[places] = judgement.probabilities
        tested, unknown = np.zeros(len(every), dtype=bool), np.zeros(len(every), dtype=np.float32)
        tested[places], unknown[places] = True, judgement.scores
        return Answers(
            np.array([self._images.pictures[i].row for i in every], dtype=np.int64),
            np.array([self._labels[i] for i in every], dtype=np.int64),
            probabilities,
            tested,
            unknown,
            look.crossed if look is not None and crossed else None,
        )

    def _every(self) -> list[int]:
        return sorted([*self._fit, *self._exam])
