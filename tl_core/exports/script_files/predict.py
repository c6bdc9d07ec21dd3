"""Names what is on pictures, with the model beside this file. Needs only numpy, Pillow and onnxruntime.

    python predict.py photo1.jpg photo2.jpg
    python predict.py *.jpg --csv answers.csv

    from predict import Classifier
    answer = Classifier("model.onnx").predict("photo.jpg")
    answer.ranking   [("bees", 0.97), ("ants", 0.03)]
    answer.strange   True when the picture is like nothing that was taught

It answers as Transfer Lab does, where the model was trained: pictures are decoded and shrunk in the same way, and what
comes after that is inside the model.
"""

import argparse
import csv
import json
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

try:  # phone pictures in HEIC, where pillow-heif is installed
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()


@dataclass(frozen=True)
class Answer:
    """`ranking` is every class with its probability, most likely first; `unknown` how unlike the training pictures."""

    ranking: list
    unknown: float
    strange: bool


class Classifier:
    """The model in an ONNX file, and the names and limits it brings along."""

    def __init__(self, model="model.onnx"):
        self._session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        facts = self._session.get_modelmeta().custom_metadata_map
        self.classes = json.loads(facts["classes"])
        self._threshold = float(facts["unknown_threshold"]) if facts["unknown_threshold"] else None
        self._short, self._long = int(facts["stored_short_side"]), int(facts["stored_long_side"])

    def predict(self, picture):
        """The answer for a file's path or a Pillow image."""
        pixels = self.pixels(picture)
        probabilities, unknown = self._session.run(None, {"picture": pixels})
        order = np.argsort(-probabilities, kind="stable")
        ranking = [(self.classes[i], float(probabilities[i])) for i in order]
        strange = self._threshold is not None and float(unknown) > self._threshold
        return Answer(ranking, float(unknown), strange)

    def pixels(self, picture):
        """(H, W, 3) uint8: upright, RGB, on white, no larger than the model was taught on."""
        if isinstance(picture, Image.Image):
            return self._array(picture)
        with Image.open(picture) as image:
            if image.format in ("JPEG", "MPO"):
                image.draft(image.mode, (self._short, self._short))  # decode at the smallest scale that is enough
            return self._array(image)

    def _array(self, image):
        image.load()  # some formats are turned upright by that
        turn = _TURNS.get(image.getexif().get(0x0112, 1))
        image = self._shrunk(_rgb(image, self._shrunk))
        return np.ascontiguousarray(image if turn is None else image.transpose(turn))

    def _shrunk(self, image):
        short, long = sorted(image.size)
        scale = min(self._short / short, self._long / long)
        if scale >= 1:
            return image
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _rgb(image, shrunk):
    """`image` as RGB; what is transparent lies on white, deep grey is scaled by the bits in use."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_grey(np.asarray(image))).convert("RGB")
    if image.mode == "CMYK":
        return _inks(image)
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        layer = np.asarray(shrunk(image.convert("RGBA").convert("RGBa")))
        colours, alpha = layer[..., :3], layer[..., 3:]
        return Image.fromarray(np.minimum(colours, alpha) + (255 - alpha))
    if image.mode in ("1", "L"):
        return shrunk(image.convert("L")).convert("RGB")
    return image.convert("RGB")


def _inks(image):
    """RGB of CMYK as Pillow gives it: how much light each ink lets through."""
    light = 255 - np.asarray(image).astype(np.uint16)
    return Image.fromarray(((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8))


def _grey(samples):
    """8 bits of deep grey: whole numbers by the bits in use, fractions by [0, 1], anything else by its extremes."""
    numbers = samples.astype(np.float32)
    known = numbers[np.isfinite(numbers)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    numbers = np.nan_to_num(numbers, nan=low, posinf=high, neginf=low)
    if samples.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif samples.dtype.kind == "f" and low >= 0 and not np.array_equal(known, np.floor(known)):
        low = 0.0
    elif low >= 0 and high <= 65_535:
        low, high = 0.0, next(2.0**bits - 1 for bits in (8, 10, 12, 14, 15, 16) if high < 2**bits)
    return np.round((numbers - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def _cell(text):
    """`text` as a cell that no spreadsheet takes for a formula."""
    head = unicodedata.normalize("NFKC", text[:1])
    risky = head.startswith(tuple("=+-@\t\r\n")) or text.lstrip().startswith(tuple("=+-@"))
    return f"'{text}" if risky else text


def _plain(text):
    """`text` in one line, without characters that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)


def main():
    parser = argparse.ArgumentParser(description="Names what is on pictures.")
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, default=Path(__file__).with_name("model.onnx"))
    parser.add_argument("--csv", type=Path, help="write a table that spreadsheets can open")
    args = parser.parse_args()
    classifier, rows, failed = Classifier(args.model), [], 0
    for file in args.pictures:
        try:
            answer = classifier.predict(file)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            print(f"{_plain(str(file))}: cannot be read ({type(error).__name__})", file=sys.stderr)
            rows.append([_cell(str(file)), "", "", "cannot be read", *("" for _ in classifier.classes)])
            failed += 1
            continue
        name, share = answer.ranking[0]
        doubt = "  (like nothing it was taught)" if answer.strange else ""
        print(f"{_plain(str(file))}: {_plain(name)}  {share:.1%}{doubt}")
        shares = dict(answer.ranking)
        found = [round(shares[known], 4) for known in classifier.classes]
        rows.append([_cell(str(file)), _cell(name), round(share, 4), "strange" if answer.strange else "", *found])
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8-sig") as out:
            writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
            writer.writerow(
                ["file", "class", "confidence", "note", *(_cell(f"share of {c}") for c in classifier.classes)]
            )
            writer.writerows(rows)
    return 2 if failed == len(args.pictures) else 0


if __name__ == "__main__":
    sys.exit(main())
