"""The troubleshooting tables of docs/: the app's own messages, with why they come and what to do written by hand.

    python -m tools.troubleshooting    writes docs/troubleshooting.md and docs/troubleshooting.zh.md anew

What is written by hand lies in docs/troubleshooting.json: {code: {"group": …, "en": [why, do], "zh": [why, do]}}, in
the order of the rows. Messages are never copied there, so that they cannot differ from what the app says.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tl_ui.words import table

DOCS = Path(__file__).parents[1] / "docs"
SOURCE = DOCS / "troubleshooting.json"
_PREFIX = "error."


@dataclass(frozen=True)
class Page:
    """What surrounds the rows in one language: `groups` are the headings by key, in order, `head` names the columns."""

    file: str
    title: str
    intro: str
    head: tuple[str, str, str]
    groups: dict[str, str]


PAGES = {
    "en": Page(
        file="troubleshooting.md",
        title="When something goes wrong",
        intro="Every error message of Transfer Lab, why it comes and what to do. Search this page for a few words of "
        "yours; “…” stands for what differs: a name, a number. How to do things well is in the [guide](guide.md). "
        "[中文](troubleshooting.zh.md)",
        head=("Message", "Why", "What to do"),
        groups={
            "pictures": "Pictures",
            "training": "Training",
            "model": "Model files",
            "hub": "Sharing and training on Hugging Face",
            "datasets": "Data sets of the Hugging Face Hub",
            "machine": "The machine, the queue and its settings",
        },
    ),
    "zh": Page(
        file="troubleshooting.zh.md",
        title="出问题时怎么办",
        intro="Transfer Lab 的每一条错误提示：为什么出现，该怎么办。在本页搜索提示里的几个字即可找到；“…”代表每次"
        "不同的内容，例如名字或数字。怎样用好它，见[使用指南](guide.zh.md)。[English](troubleshooting.md)",
        head=("提示", "为什么", "怎么办"),
        groups={
            "pictures": "图片",
            "training": "训练",
            "model": "模型文件",
            "hub": "在 Hugging Face 上分享和训练",
            "datasets": "Hugging Face Hub 上的数据集",
            "machine": "机器、排队和设置",
        },
    ),
}


@dataclass(frozen=True)
class Row:
    """What is written by hand about one message."""

    code: str
    group: str
    why: str
    do: str


def codes() -> set[str]:
    """The code of every error that the app can show."""
    return {key.removeprefix(_PREFIX) for key in table("en") if key.startswith(_PREFIX)}


def rows(language: str) -> list[Row]:
    """The rows of one language in their order; a code without text in it has none."""
    source = json.loads(SOURCE.read_text(encoding="utf-8"))
    return [Row(code, told["group"], *told[language]) for code, told in source.items() if language in told]


def render(language: str) -> str:
    """The whole page in one language. Raises KeyError for a row whose message is gone."""
    page, words, told = PAGES[language], table(language), rows(language)
    parts = [
        f"<!-- Written by tools/troubleshooting.py from {SOURCE.name}: change it there. -->",
        f"# {page.title}",
        page.intro,
    ]
    for group, heading in page.groups.items():
        lines = [_line(*page.head), _line("---", "---", "---")]
        lines += [_line(_message(words[_PREFIX + row.code]), row.why, row.do) for row in told if row.group == group]
        parts += [f"## {heading}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _message(sentence: str) -> str:
    """A sentence of the app as it is shown, with … where it is filled in."""
    several = re.sub(r"\{\w+:[^}|]*\|([^}]*)\}", r"… \1", sentence)
    return re.sub(r"\{\w+\}", "…", several)


def _line(*cells: str) -> str:
    # A bar inside of a cell would end it.
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def main() -> None:
    """Write every page."""
    for language, page in PAGES.items():
        (DOCS / page.file).write_text(render(language), encoding="utf-8")


if __name__ == "__main__":
    main()
