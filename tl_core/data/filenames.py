"""Classes from file names: `cat.123.jpg`, `american_bulldog_12.jpg`, `001_cat.jpg`, `猫1.jpg`. Always a guess.

A file's words are what its name holds besides numbers. The guess is only made when it is convincing: few classes,
several pictures in each, nearly all pictures covered, and words that are not those of cameras and phones.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from tl_core.data.layout import Part, Place, looks_like_picture, pictures

MOST_CLASSES = 100
LEAST_COVERED = 0.95
LEAST_REPEATED = 0.9  # of the covered pictures share their class with another

_LONGEST_NAME = 120
_MOST_WORDS = 12
_WORD = re.compile(r"[^\s._\-()\[\]+,~#@&=]+")
_WORD_AND_NUMBER = re.compile(r"(\D*\D)(\d+)")
# What cameras, phones, chats, screens and tools call their files. A first word of these says nothing about a class.
_DEVICE_WORDS = {
    *("img", "image", "images", "dsc", "dscn", "dscf", "dcim", "pxl", "mvimg", "sam", "gopr", "pano", "pic", "pics"),
    *("photo", "photos", "picture", "pictures", "video", "vid", "frame", "frames", "burst", "scan", "scanned", "page"),
    *("screenshot", "screenshots", "screen", "capture", "snapshot", "snap", "bildschirmfoto", "snapchat", "whatsapp"),
    *("signal", "telegram", "received", "fb", "instagram", "mmexport", "wx", "wechat", "wa", "facebook", "tumblr"),
    *("captura", "zrzut", "schermata", "schermafbeelding", "снимок", "スクリーンショット", "inshot", "resized"),
    *("file", "files", "untitled", "unnamed", "download", "output", "sample", "temp", "tmp", "new", "copy", "crop"),
    *("train", "test", "val", "valid", "validation", "thumbnail", "default", "original", "isic", "coco", "ilsvrc"),
    *("图片", "图像", "照片", "截图", "截屏", "屏幕截图", "微信图片", "微信截图", "未命名", "未标题", "下载", "新建"),
}


def read_names(names: Sequence[str], parts: Mapping[str, Part]) -> dict[str, Place | str] | None:
    """The place of every path by its file's name, or the reason's code why it has none; None when no guess convinces.

    `parts`: the official part that each lies in. Where some are for training, only those have to be covered: a test
    part is often without classes.
    """
    shown = pictures(names)
    judged = [name for name in shown if parts.get(name) == "train"] or shown
    worded = {name: _words(name) for name in shown}
    for template in _TEMPLATES:
        classes = _convincing({name: _class(words, template) for name, words in worded.items()}, judged)
        if classes:
            split = {parts.get(name, "") for name in classes}
            keep = "train" in split and len(split) > 1
            found = {name: Place(label, parts.get(name, "") if keep else "") for name, label in classes.items()}
            return {name: found.get(name, "no_class_in_name") for name in names}
    return None


def _convincing(labels: Mapping[str, str | None], judged: Sequence[str]) -> dict[str, str] | None:
    """Picture -> class, of classes with two pictures or more; None unless they are convincing among those judged."""
    counts = Counter(label.casefold() for name in judged if (label := labels[name]))
    repeated = {label for label, count in counts.items() if count > 1}
    covered, kept = sum(counts.values()), sum(counts[label] for label in repeated)
    if not 2 <= len(repeated) <= MOST_CLASSES or len(repeated) * 3 < len(counts) * 2:
        return None
    if covered < LEAST_COVERED * len(judged) or kept < LEAST_REPEATED * covered:
        return None
    return {name: label for name, label in labels.items() if label and label.casefold() in repeated}


@dataclass(frozen=True)
class _Words:
    """A file's name without its ending, and where its words begin and end; "猫12" and "cat12" are two words."""

    stem: str
    spans: tuple[tuple[int, int], ...]


def _words(name: str) -> _Words:
    file = name.rpartition("/")[2]
    stem = unicodedata.normalize("NFC", file.rpartition(".")[0] if looks_like_picture(file) else file)[:_LONGEST_NAME]
    spans: list[tuple[int, int]] = []
    for found in islice(_WORD.finditer(stem), _MOST_WORDS):
        if pair := _WORD_AND_NUMBER.fullmatch(found[0]):
            middle = found.start() + len(pair[1])
            spans += [(found.start(), middle), (middle, found.end())]
        else:
            spans.append(found.span())
    return _Words(stem, tuple(spans))


def _class(name: _Words, template: "_Template") -> str | None:
    """What `template` takes for the class in a file's name, spelt as in the name."""
    words = [name.stem[start:end] for start, end in name.spans]
    chosen = template(words)
    if not chosen or words[0].casefold() in _DEVICE_WORDS:
        return None
    start, end = name.spans[chosen.start][0], name.spans[chosen.stop - 1][1]
    label = name.stem[start:end]
    letters = [letter for letter in label if letter.isalpha()]
    # One Latin letter says something only in "a_01"; "p1" and the size in "275429470_b2d7_m" do not.
    if not letters or (len(letters) == 1 and letters[0].isascii() and (start or name.stem[end : end + 1].isdigit())):
        return None
    return label


_Template = Callable[[list[str]], range | None]  # the words of a name -> which of them are the class


def _numbered(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def _between_numbers(words: list[str]) -> range | None:
    """ "cat" of "cat 12", "001 cat", "2024 01 cat 12", and of "cat" alone."""
    kept = [at for at, word in enumerate(words) if not _numbered(word)]
    return range(kept[0], kept[-1] + 1) if kept and kept[-1] - kept[0] + 1 == len(kept) else None


def _before_last_number(words: list[str]) -> range | None:
    """ "class 1" of "class 1 001". Longer numbers count pictures or say when they were taken."""
    short = all(not _numbered(word) or (word.isdecimal() and len(word) <= 2) for word in words[:-1])
    return range(len(words) - 1) if len(words) > 2 and short and words[-1].isdecimal() else None


def _before_first_number(words: list[str]) -> range | None:
    """ "cat" of "cat 12 flipped" and "cat 2gcd4 ingestion"."""
    first = next((at for at, word in enumerate(words) if _numbered(word)), 0)
    return range(first) or None


_TEMPLATES: tuple[_Template, ...] = (_between_numbers, _before_last_number, _before_first_number)
