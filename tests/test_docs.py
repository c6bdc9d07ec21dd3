"""The documents for people: every error has its row, labels quoted are those of the page, links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from tl_ui.words import table
from tools import troubleshooting

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
GUIDES = {"en": "guide.md", "zh": "guide.zh.md"}
AGAIN = "run python -m tools.troubleshooting"


@pytest.mark.parametrize("language", troubleshooting.PAGES)
def test_every_error_has_a_row_and_every_row_an_error(language: str) -> None:
    told, known = {row.code for row in troubleshooting.rows(language)}, troubleshooting.codes()
    assert not known - told, f"docs/troubleshooting.json says nothing in {language} about these errors; then {AGAIN}"
    assert not told - known, f"docs/troubleshooting.json has rows for errors that no longer exist; then {AGAIN}"


@pytest.mark.parametrize("language", troubleshooting.PAGES)
def test_every_row_says_why_and_what_to_do_in_a_group_of_the_page(language: str) -> None:
    page = troubleshooting.PAGES[language]
    for row in troubleshooting.rows(language):
        assert row.group in page.groups, row.code
        assert row.why.strip() and row.do.strip(), row.code
        assert "\n" not in row.why + row.do, row.code


def test_the_text_written_by_hand_has_no_row_twice() -> None:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names)), [name for name in names if names.count(name) > 1]
        return dict(pairs)

    json.loads(troubleshooting.SOURCE.read_text(encoding="utf-8"), object_pairs_hook=once)


@pytest.mark.parametrize("language", troubleshooting.PAGES)
def test_the_tables_are_what_the_tool_renders(language: str) -> None:
    file = troubleshooting.DOCS / troubleshooting.PAGES[language].file
    assert file.read_text(encoding="utf-8") == troubleshooting.render(language), AGAIN


def test_a_table_shows_a_message_with_its_values_left_open() -> None:
    assert "| “…” is empty (0 bytes). Choose the zip again;" in troubleshooting.render("en")
    assert "{" not in troubleshooting.render("en") + troubleshooting.render("zh")


@pytest.mark.parametrize("language", GUIDES)
def test_what_a_guide_prints_bold_is_a_label_of_the_page(language: str) -> None:
    """So that nobody is sent to a button that has another name by now."""
    text = " ".join((ROOT / "docs" / GUIDES[language]).read_text(encoding="utf-8").split())
    patterns = [re.sub(r"\\\{\w+\\\}", ".+", re.escape(word)) for word in table(language).values()]
    quoted = re.findall(r"\*\*(.+?)\*\*", text)
    assert len(quoted) > 20
    for label in quoted:
        assert any(re.fullmatch(pattern, label) for pattern in patterns), f"no word of the page: {label}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_images_lead_to_files(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    for target in targets:
        if not re.match(r"[a-z]+:|#", target):
            assert (document.parent / target.split("#")[0]).exists(), f"{document.name}: {target}"
