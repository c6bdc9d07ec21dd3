"""Draws the two example zips beside this file: `python -m examples.make_data`. The same bytes every time.

shapes.zip  drawn here with Pillow: five shapes in any colour, size, place and turn, on busy paper.
digits.zip  handwritten digits from scikit-learn (UCI "Optical recognition of handwritten digits", CC BY 4.0,
            https://doi.org/10.24432/C50P49), which ships them in its package.
"""

import io
import math
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

HERE = Path(__file__).parent
SHAPES = ("circle", "heart", "square", "star", "triangle")
SIDE = 112
PER_SHAPE, PER_DIGIT = 40, 40


def main() -> None:
    """Write both zips."""
    _write(HERE / "shapes.zip", _shapes())
    _write(HERE / "digits.zip", _digits())


def _write(path: Path, pictures: Iterator[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in pictures:
            archive.writestr(zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0)), data)


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

    bunch = load_digits()
    for digit in range(10):
        chosen = [i for i, target in enumerate(bunch.target) if target == digit][:PER_DIGIT]
        for number, at in enumerate(chosen):
            tones = (255 - bunch.images[at] * (255 / 16)).round().astype("uint8")
            image = Image.fromarray(tones).resize((64, 64), Image.Resampling.BICUBIC)
            out = io.BytesIO()
            image.save(out, "PNG", optimize=True)
            yield f"digits/{digit}/{digit}-{number + 1:02}.png", out.getvalue()


if __name__ == "__main__":
    main()
