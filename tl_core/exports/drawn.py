"""Pictures that show nothing, to ask two models about where there are no others: smooth spots of any shape and size."""

import numpy as np

from tl_core.data.imageset import RGB

_COUNT = 64


def drawn() -> list[RGB]:
    """(H, W, 3) uint8 each; the same every time."""
    rng, pictures = np.random.default_rng(0), []
    for _ in range(_COUNT):
        height, width = (int(side) for side in rng.integers(40, 320, 2))
        rows, columns = np.linspace(0, 6, height)[:, None], np.linspace(0, 6, width)[None]
        waves = rng.uniform(0.3, 3, (3, 4))
        light = [np.sin(a * rows + b) * np.cos(c * columns + d) for a, b, c, d in waves]
        noisy = 127 + 100 * np.stack(light, axis=2) + rng.normal(0, 12, (height, width, 3))
        pictures.append(noisy.clip(0, 255).astype(np.uint8))
    return pictures
