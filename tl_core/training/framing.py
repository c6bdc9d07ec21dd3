"""How pictures that are not square become square: the middle cut out, the whole squeezed, or bars added.

Networks come with cutting. The other ways are tried only where a share of the pictures is far from square, and on no
more of them than is cheap (`framed_pass.py`). Nothing here needs torch: the page shows it, the plan counts with it.
"""

from dataclasses import replace
from typing import get_args

import numpy as np
from PIL import Image

from tl_core.data.imageset import RGB, ImageSet, Picture
from tl_core.data.pixels import Framing, Preprocessing
from tl_core.models.catalogue import Backbone

FRAMINGS: tuple[Framing, ...] = get_args(Framing)
ELONGATED = 1.25  # long side to short side: from here on a fifth of the picture is cut away
_SHARE = 0.1  # of all pictures: with fewer elongated ones the framing cannot matter much
SAMPLE, _LEAST = 400, 40  # training pictures the ways are compared on; with fewer nothing is ever sure
_STEP = 50  # so that a speed measured a little differently leads to the same pictures
# Looking at the sample again costs at most this part of looking at everything, or so many seconds.
_COST, _FREE_SECONDS = 0.25, 0.8
_JUDGING_SECONDS = 0.1


def elongation(picture: Picture) -> float:
    """Long side to short side: 1 for a square."""
    return max(picture.height, picture.width) / min(picture.height, picture.width)


def most_elongated(images: ImageSet, most: int) -> list[int]:
    """Indices of the pictures farthest from square, the farthest first; none that is nearly square."""
    far = {i: ratio for i, picture in enumerate(images.pictures) if (ratio := elongation(picture)) >= ELONGATED}
    return sorted(far, key=lambda i: -far[i])[:most]


def matters(images: ImageSet) -> bool:
    """Whether so many pictures are elongated that it is worth comparing ways of framing them."""
    return len(most_elongated(images, len(images.pictures))) >= _SHARE * max(1, len(images.pictures))


def affordable(pictures: int, train: int, speed: float) -> int:
    """How many of `train` pictures the ways are compared on at `speed` pictures a second, `pictures` being all there
    are; 0 where that is too few to be worth it."""
    again = max(_COST * pictures, _FREE_SECONDS * speed) / (len(FRAMINGS) - 1)
    found = min(SAMPLE, train, int(again) if again < _STEP else int(again) // _STEP * _STEP)
    return found if found >= _LEAST else 0


def comparing_seconds(pictures: int, train: int, seconds_each: float) -> float:
    """Seconds that comparing adds to a run that needs `seconds_each` to look at a picture."""
    sample = affordable(pictures, train, 1 / seconds_each)
    return (len(FRAMINGS) - 1) * sample * seconds_each + _JUDGING_SECONDS if sample else 0.0


def reframed(row: Backbone, framing: Framing) -> Backbone:
    """`row` with that framing. What is not cut is seen whole: no margin is cut off around it either."""
    seen = row.preprocessing
    if framing == seen.framing:
        return row
    share = seen.crop_pct if framing == "crop" else 1.0
    return replace(row, preprocessing=replace(seen, framing=framing, crop_pct=share))


def preview(picture: RGB, seen: Preprocessing) -> RGB:
    """(size, size, 3): to the eye what `seen.frame` makes of `picture`, without torch."""
    height, width = picture.shape[:2]
    inner, image = round(seen.size / seen.crop_pct), Image.fromarray(picture)
    if seen.framing == "crop":
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.resize((inner, inner), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    elif seen.framing == "squash":
        image = image.resize((inner, inner), Image.Resampling.BILINEAR)
    else:
        scale = inner / max(height, width)
        small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BILINEAR)
        red, green, blue = (round(255 * value) for value in seen.mean)
        image = Image.new("RGB", (inner, inner), (red, green, blue))
        image.paste(small, ((inner - small.width) // 2, (inner - small.height) // 2))
    margin = (inner - seen.size) // 2
    return np.asarray(image.crop((margin, margin, margin + seen.size, margin + seen.size)))
