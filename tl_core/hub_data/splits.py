"""Which files of a repository are which split of which version of a data set. Pure: paths and the card's front matter.

What a card says is matched against the repository's own list of files, so it can name nothing else.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fsspec.utils import glob_translate

from tl_core.data.layout import Part, part_of
from tl_core.dataset_errors import DatasetConfigError
from tl_core.errors import plain

Splits = dict[str, list[str]]  # split -> paths

_NAMES: dict[Part, str] = {"train": "train", "val": "validation", "test": "test", "": "train"}
_MAX_PATTERN, _MAX_STARS = 300, 6  # a longer pattern, or one with more stars, could take hours to match
_MAX_CONFIGS = 100


@dataclass(frozen=True)
class Choice:
    """The version of a data set that is taken, and the names of all; `name` is "" where there is only one."""

    splits: Splits
    name: str = ""
    known: tuple[str, ...] = ()


def choose(repo: str, wanted: str, card: Mapping[str, Any], paths: Sequence[str]) -> Choice:
    """The version `wanted` ("": the default, else the first) of `paths`. Raises DatasetConfigError."""
    found, default = _from_card(card, paths)
    if not found and not wanted:
        return Choice(by_words(paths))
    return _pick(repo, wanted, found, default)


def choose_converted(repo: str, wanted: str, paths: Sequence[str]) -> Choice:
    """The same for the Hub's own conversion, whose paths are `<config>/<split>/0000.parquet`."""
    found: dict[str, Splits] = {}
    for path in sorted(paths):
        config, _, rest = path.partition("/")
        split = rest.rpartition("/")[0]
        if split:
            found.setdefault(config, {}).setdefault(split, []).append(path)
    return _pick(repo, wanted, found, "")


def by_words(paths: Iterable[str]) -> Splits:
    """Splits by the words in paths: `data/train-00000-of-00002.parquet`, `test/1.parquet`; without any, all train."""
    found: Splits = {}
    for path in sorted(paths):
        parts = [part for word in re.split(r"[^A-Za-z]+", path) if word and (part := part_of(word))]
        found.setdefault(_NAMES[parts[-1] if parts else ""], []).append(path)
    return found


def _pick(repo: str, wanted: str, found: Mapping[str, Splits], default: str) -> Choice:
    if wanted and wanted not in found:
        known = ", ".join(found) or "–"
        raise DatasetConfigError(repo=repo, name=wanted, known=plain(known, 200))
    if not found:
        return Choice({})
    name = wanted or default or ("default" if "default" in found else next(iter(found)))
    return Choice(found[name], name if len(found) > 1 else "", tuple(found))


def _from_card(card: Mapping[str, Any], paths: Sequence[str]) -> tuple[dict[str, Splits], str]:
    """Every version that the card describes and that has files, and which is the default ("" when none is)."""
    found: dict[str, Splits] = {}
    default = ""
    configs = card.get("configs")
    for config in configs[:_MAX_CONFIGS] if isinstance(configs, list) else ():
        if not isinstance(config, dict):
            continue
        name = str(config.get("config_name", "default"))
        splits = _splits(config.get("data_files"), config.get("data_dir"), paths)
        if splits:
            found[name] = splits
            default = name if config.get("default") is True else default
    return found, default


def _splits(data_files: Any, data_dir: Any, paths: Sequence[str]) -> Splits:
    below = f"{data_dir.strip('/')}/" if isinstance(data_dir, str) and data_dir.strip("/") else ""
    if data_files is None:
        return by_words(path for path in paths if path.startswith(below)) if below else {}
    entries = data_files if isinstance(data_files, list) else [data_files]
    if not all(isinstance(entry, dict) for entry in entries):
        matched = _matching(entries, below, paths)
        return by_words(matched) if matched else {}
    found: Splits = {}
    taken: set[str] = set()
    for entry in entries:
        patterns = entry.get("path")
        matched = _matching(patterns if isinstance(patterns, list) else [patterns], below, paths)
        # A file belongs to one split only, so that no picture is both learned from and tested on.
        fresh = [path for path in matched if path not in taken]
        if fresh:
            found.setdefault(str(entry.get("split", "train")), []).extend(fresh)
            taken.update(fresh)
    return found


def _matching(patterns: Iterable[Any], below: str, paths: Sequence[str]) -> list[str]:
    found: set[str] = set()
    for pattern in patterns:
        if not isinstance(pattern, str) or len(pattern) > _MAX_PATTERN or pattern.count("*") > _MAX_STARS:
            continue
        try:
            whole = re.compile(glob_translate(below + pattern.removeprefix("./")))
        except (re.error, ValueError):
            continue
        found.update(path for path in paths if whole.match(path))
    return sorted(found)
