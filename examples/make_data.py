"""Draws the example zips beside this file, and of each the first pictures as one for the page:
`python -m examples.make_data`. The same bytes every time.

shapes.zip    drawn here with Pillow: five shapes in any colour, size, place and turn, on busy paper.
textures.zip  drawn here: bricks, wood, waves, bubbles and weave, in any colour, scale and turn.
digits.zip    handwritten digits from scikit-learn (UCI "Optical recognition of handwritten digits", CC BY 4.0,
              https://doi.org/10.24432/C50P49), which ships them in its package.
"""

import io
import math
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

HERE = Path(__file__).parent
SHAPES = ("circle", "heart", "square", "star", "triangle")
SIDE = 112
PER_SHAPE, PER_TEXTURE, PER_DIGIT = 40, 36, 40
_STRIP, _SIDE = 4, 96  # pictures side by side for the page, and their pixels
Plane = npt.NDArray[np.float64]


def main() -> None:
    """Write the zips."""
    _write(HERE / "shapes.zip", _shapes())
    _write(HERE / "textures.zip", _textures())
    _write(HERE / "digits.zip", _digits())


def _write(path: Path, pictures: Iterator[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        first: dict[str, bytes] = {}
        for name, data in pictures:
            archive.writestr(zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0)), data)
            first.setdefault(name.split("/")[1], data)
    strip = Image.new("RGB", (_STRIP * _SIDE, _SIDE))
    for at, data in enumerate(list(first.values())[:_STRIP]):
        strip.paste(Image.open(io.BytesIO(data)).convert("RGB").resize((_SIDE, _SIDE)), (at * _SIDE, 0))
    strip.save(path.with_suffix(".jpg"), quality=80)


def _shapes() -> Iterator[tuple[str, bytes]]:
    rng = random.Random(0)
    for shape in SHAPES:
        for number in range(PER_SHAPE):
            out = io.BytesIO()
            draw_shape(shape, rng).save(out, "JPEG", quality=82)
            yield f"shapes/{shape}/{shape}-{number + 1:02}.jpg", out.getvalue()


def draw_shape(shape: str, rng: random.Random) -> Image.Image:
    """One RGB picture of `shape`, SIDE pixels a side."""
    paper = tuple(rng.randint(190, 250) for _ in range(3))
    ink = tuple(rng.randint(10, 130) for _ in range(3))
    image = Image.new("RGB", (SIDE * 2, SIDE * 2), paper)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 6)):  # specks and lines, so that the shape is not all there is
        x, y = rng.randint(0, SIDE * 2), rng.randint(0, SIDE * 2)
        tone = tuple(max(0, min(255, c + rng.randint(-25, 25))) for c in paper)
        draw.line((x, y, x + rng.randint(-90, 90), y + rng.randint(-90, 90)), fill=tone, width=rng.randint(1, 5))
    radius = rng.uniform(65, 95)
    centre = (rng.uniform(radius, SIDE * 2 - radius), rng.uniform(radius, SIDE * 2 - radius))
    draw.polygon(_outline(shape, centre, radius, rng.uniform(-0.35, 0.35)), fill=ink)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.6)))


def _outline(shape: str, centre: tuple[float, float], radius: float, turn: float) -> list[tuple[float, float]]:
    if shape == "heart":
        angles = [2 * math.pi * i / 60 for i in range(60)]
        points = [
            (
                16 * math.sin(a) ** 3 / 17,
                -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 17,
            )
            for a in angles
        ]
    else:
        corners = {"circle": 60, "square": 4, "triangle": 3, "star": 10}[shape]
        far = [0.45 if shape == "star" and i % 2 else 1.0 for i in range(corners)]
        points = [
            (far[i] * math.sin(2 * math.pi * i / corners), -far[i] * math.cos(2 * math.pi * i / corners))
            for i in range(corners)
        ]
    c, s = math.cos(turn), math.sin(turn)
    return [(centre[0] + radius * (c * x - s * y), centre[1] + radius * (s * x + c * y)) for x, y in points]


def _digits() -> Iterator[tuple[str, bytes]]:
    from sklearn.datasets import load_digits

    from tl_ui.parts.draw_digit import digit_picture

    bunch = load_digits()
    for digit in range(10):
        chosen = [i for i, target in enumerate(bunch.target) if target == digit][:PER_DIGIT]
        for number, at in enumerate(chosen):
            out = io.BytesIO()
            digit_picture(bunch.images[at]).save(out, "PNG", optimize=True)
            yield f"digits/{digit}/{digit}-{number + 1:02}.png", out.getvalue()


def _textures() -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    for name, height_of in TEXTURES.items():
        for number in range(PER_TEXTURE):
            out = io.BytesIO()
            _textured(height_of, rng).save(out, "JPEG", quality=80)
            yield f"textures/{name}/{name}-{number + 1:02}.jpg", out.getvalue()


def _textured(height_of: Callable[[Plane, Plane, np.random.Generator], Plane], rng: np.random.Generator) -> Image.Image:
    """One RGB picture, SIDE pixels a side: a height in [0, 1] at every place, between a dark and a light colour."""
    turn, scale = rng.uniform(-0.5, 0.5), rng.uniform(0.8, 1.25)
    y, x = np.mgrid[0:SIDE, 0:SIDE] * scale + rng.uniform(0, 500, 2)[:, None, None]
    u, v = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
    height = np.clip(height_of(u, v, rng) + rng.normal(0, 0.05, u.shape), 0, 1)[..., None]
    dark, light = rng.uniform(20, 110, 3), rng.uniform(140, 250, 3)
    return Image.fromarray((dark + (light - dark) * height).astype(np.uint8))


def _noise(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    """Soft bumps in [0, 1]: a few waves of any direction."""
    total = np.zeros_like(u)
    for _ in range(6):
        angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(15, 60)
        total += np.sin((u * math.cos(angle) + v * math.sin(angle)) * 2 * math.pi / length + rng.uniform(0, 6))
    return total / 12 + 0.5


def _bricks(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    wide, high, joint = 30.0, 14.0, rng.uniform(2, 3.5)
    row = np.floor(v / high)
    along = (u + wide / 2 * (row % 2)) % wide
    solid = (along > joint) & (v % high > joint)
    tone = 0.45 + 0.25 * np.sin(12.9 * row + 78.2 * np.floor((u + wide / 2 * (row % 2)) / wide))
    return np.where(solid, tone + 0.15 * _noise(u, v, rng), 0.98)


def _wood(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    grain = v + 9 * _noise(u / 5, v / 2, rng) + 3 * np.sin(u / 45)
    return 0.55 + 0.3 * np.sin(grain * 2 * math.pi / rng.uniform(8, 13)) + 0.12 * np.sin(grain * 2.7)


def _waves(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    ripple = v / rng.uniform(9, 13) + 1.4 * np.sin(u / rng.uniform(16, 24)) + 0.6 * np.sin(u / 7 + v / 19)
    return (0.5 + 0.5 * np.sin(ripple)) ** 2


def _bubbles(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    found = np.full_like(u, 0.75)
    for _ in range(38):
        radius = rng.uniform(5, 16)
        far = np.hypot(u - rng.uniform(u.min(), u.max()), v - rng.uniform(v.min(), v.max()))
        found = np.where(far < radius, 0.35 + 0.3 * far / radius, np.where(far < radius + 1.6, 0.05, found))
    return found


def _weave(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    thread = rng.uniform(9, 13)
    over = (np.floor(u / thread) + np.floor(v / thread)) % 2 == 0
    return 0.15 + 0.75 * np.where(
        over, np.sin(math.pi * (u % thread) / thread), np.sin(math.pi * (v % thread) / thread)
    )


TEXTURES = {"bricks": _bricks, "bubbles": _bubbles, "waves": _waves, "weave": _weave, "wood": _wood}


if __name__ == "__main__":
    main()
