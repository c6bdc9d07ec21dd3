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
        features = feature_map(self.trunk, x) if needs(self.head) == "map" else self.trunk(x)
        logits: Tensor = self.head(features)
        return logits

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
