"""A whole classifier: a backbone under a head of any kind."""

import threading
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from tl_core.models.backbone import feature_map
from tl_core.models.heads import needs


class Classifier(nn.Module):
    """`trunk` gives features, `head` logits: (N, 3, H, W) float32 -> (N, C)."""

    def __init__(self, trunk: nn.Module, head: nn.Module, classes: int) -> None:
        super().__init__()
        self.trunk, self.head, self.classes = trunk, head, classes
        self.auxiliary: nn.Module | None = None
        self._hook: Any = None
        self._seen = threading.local()  # several threads ask one model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self._features(x))
        return logits

    def seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) logits and the (N, D) features that they come from, averaged over the places of a feature map."""
        features = self._features(x)
        return self.head(features), pooled(features)

    @property
    def feature_width(self) -> int:
        """D of `seen`."""
        width: int = self.trunk.num_features if needs(self.head) == "map" else self.trunk.head_hidden_size  # type: ignore[assignment]
        return width

    def _features(self, x: Tensor) -> Tensor:
        return feature_map(self.trunk, x) if needs(self.head) == "map" else self.trunk(x)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The logits, and those of the auxiliary classifier while there is one."""
        logits = self(x)
        return logits, None if self.auxiliary is None else self.auxiliary(self._seen.middle)

    def attach(self, auxiliary: nn.Module, layer: str) -> None:
        """Let `auxiliary` see what the trunk's `layer` gives, until `detach`."""

        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._seen.middle = output

        self.auxiliary = auxiliary
        self._hook = self.trunk.get_submodule(layer).register_forward_hook(keep)

    def detach(self) -> None:
        """Do without the auxiliary classifier from now on."""
        if self._hook is not None:
            self._hook.remove()
        self.auxiliary, self._hook, self._seen = None, None, threading.local()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the head, and of the auxiliary classifier."""
        yield from self.head.parameters()
        if self.auxiliary is not None:
            yield from self.auxiliary.parameters()


def pooled(features: Tensor) -> Tensor:
    """(N, D) of features that are (N, D) already or maps, (N, T, D)."""
    return features.mean(1) if features.ndim == 3 else features
