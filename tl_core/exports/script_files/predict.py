"""Names what is on pictures, with the model beside this file. Needs only what requirements.txt lists.

    python predict.py photo1.jpg photo2.jpg
    python predict.py folder-of-photos --csv answers.csv

    from predict import Classifier
    answer = Classifier("model.onnx").predict("photo.jpg")
    answer.ranking   [("bees", 0.97), ("ants", 0.03)]
    answer.strange   True when the picture is like nothing that was taught

It answers as Transfer Lab does, where the model was trained: pictures are decoded and shrunk in the same way, and what
comes after that is inside the model.
"""

import argparse
import csv
import glob
import json
import sys
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import simplejpeg
from PIL import Image

try:  # phone pictures in HEIC, where pillow-heif is installed
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()

# What Transfer Lab reads. Pillow alone would open more, some of it by other programs (EPS by Ghostscript).
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
Image.init()
_KNOWN = [name for name in _FORMATS if name in Image.OPEN]

# Of a folder's files those that are pictures by their names.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")


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
            return self._upright(picture, picture)
        with Image.open(picture, formats=_KNOWN) as image:
            if image.format in ("JPEG", "MPO"):
                inverted = "adobe" not in image.info
                return self._upright(_jpeg(Path(picture).read_bytes(), self._short, inverted), image)
            return self._upright(image, image)

    def _upright(self, image, told):
        """The pixels of `image`, turned as `told` has it in its EXIF."""
        image.load()  # some formats are turned upright by that
        turn = _TURNS.get(_orientation(told))
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


def _orientation(image):
    """How the EXIF of a loaded picture has it turned, 1 to 8; XMP is not asked. TIFF was turned by loading it."""
    exif = Image.Exif()
    try:
        exif.load(b"" if image.format == "TIFF" else image.info.get("exif", b""))
        return exif.get(0x0112, 1)
    except Exception:  # an odd tag says nothing of the picture
        return 1


def _jpeg(data, side, inverted):
    """A JPEG in RGB at the smallest eighths of its size that still have `side` pixels. Pillow only knows halves."""
    if data[-2:] != b"\xff\xd9" and data.count(b"\xff\xda") == 1:
        data += b"\xff\xd9"  # where only the end marker is missing, all of the picture is there
    space = simplejpeg.decode_jpeg_header(data)[2]
    inks = space in ("CMYK", "YCCK")
    wanted = {"colorspace": "CMYK" if inks else "RGB", "min_height": side, "min_width": side}
    try:
        pixels = simplejpeg.decode_jpeg(data, **wanted)
    except ValueError as error:  # stray bytes before the end cost no pixel; anything else may
        if "extraneous bytes before marker 0xd9" not in str(error):
            raise
        pixels = simplejpeg.decode_jpeg(data, strict=False, **wanted)
    if inks:  # how much light each ink lets through
        light = (255 - pixels if inverted else pixels).astype(np.uint16)
        pixels = ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)
    return Image.fromarray(pixels)


def _rgb(image, shrunk):
    """`image` as RGB; what is transparent lies on white, deep grey is scaled by the bits in use."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_grey(np.asarray(image))).convert("RGB")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        layer = np.asarray(shrunk(image.convert("RGBA").convert("RGBa")))
        colours, alpha = layer[..., :3], layer[..., 3:]
        return Image.fromarray(np.minimum(colours, alpha) + (255 - alpha))
    if image.mode in ("1", "L"):
        return shrunk(image.convert("L")).convert("RGB")
    return image.convert("RGB")


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


def _files(names):
    """The files that `names` mean: themselves, all pictures of a folder, or, as on Windows, what fits a pattern."""
    for name in names:
        path = Path(name)
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
        elif not path.exists() and any(sign in name for sign in "*?["):
            yield from map(Path, sorted(glob.glob(name)))
        else:
            yield path


def _row(file, classifier):
    """A line for the terminal, whether it is an answer, and the cells of the table."""
    name = _plain(str(file))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of large pictures and odd tags
            answer = classifier.predict(file)
    except Exception as error:  # decoders raise anything; one bad file must not stop the others
        why = "there is no such file" if isinstance(error, FileNotFoundError) else "cannot be read as a picture"
        return f"{name}: {why}", False, [_cell(str(file)), "", "", why, "", *("" for _ in classifier.classes)]
    best, share = answer.ranking[0]
    shares = dict(answer.ranking)
    doubt = "  (like nothing it was taught)" if answer.strange else ""
    found = [round(shares[known], 4) for known in classifier.classes]
    cells = [_cell(str(file)), _cell(best), round(share, 4), "", "yes" if answer.strange else "no", *found]
    return f"{name}: {_plain(best)}  {share:.1%}{doubt}", True, cells


def main():
    """Answer the command line; the exit status is 2 when no picture could be read."""
    parser = argparse.ArgumentParser(description="Names what is on pictures.")
    parser.add_argument("pictures", nargs="+", help="picture files or folders of them")
    parser.add_argument("--model", type=Path, default=Path(__file__).with_name("model.onnx"))
    parser.add_argument("--csv", type=Path, help="write a table that spreadsheets can open")
    args = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # terminals that have no letters for a class's name
    files = list(_files(args.pictures))
    if not files:
        print("No pictures found there.", file=sys.stderr)
        return 2
    classifier, rows, answered = Classifier(args.model), [], 0
    for file in files:
        line, good, cells = _row(file, classifier)
        print(line, file=sys.stdout if good else sys.stderr, flush=True)
        answered += good
        rows.append(cells)
    if args.csv:
        shares = (_cell(f"share of {name}") for name in classifier.classes)
        with args.csv.open("w", newline="", encoding="utf-8-sig") as out:
            writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
            writer.writerow(["file", "class", "confidence", "problem", "unlike anything taught", *shares])
            writer.writerows(rows)
    return 0 if answered else 2


if __name__ == "__main__":
    sys.exit(main())
