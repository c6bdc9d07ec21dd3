"""CSV files that spreadsheets open without running anything in them: predictions, and other lists for people."""

import csv
import unicodedata
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # lists are written without torch
    from tl_core.bundle.predictor import Prediction

# What makes Excel or LibreOffice read a cell as a formula, full-width forms included
# (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = tuple("=+-@\t\r\n")


def predictions_csv(rows: "Sequence[tuple[str, Prediction | str]]", class_names: Sequence[str]) -> str:
    """One line a file, in the order given: its class, the confidence, the other classes that it may well be, every
    class's share; or why it could not be read.

    UTF-8 with a byte-order mark at the front, which Excel needs.
    """
    out = StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(
        [
            "file",
            "class",
            "confidence",
            "problem",
            "unlike anything taught",
            "could also be",
            *(text_cell(f"share of {name}") for name in class_names),
        ]
    )
    for file, result in rows:
        if isinstance(result, str):
            writer.writerow([text_cell(file), "", "", text_cell(result), "", "", *("" for _ in class_names)])
            continue
        share = dict(result.ranking)
        numbers = [round(share[name], 4) if name in share else "" for name in class_names]
        strange = "yes" if result.strange else "" if result.unknown is None else "no"
        sure, others = round(result.confidence, 4), "; ".join(name for name in result.likely if name != result.label)
        writer.writerow([text_cell(file), text_cell(result.label), sure, "", strange, text_cell(others), *numbers])
    return "\ufeff" + out.getvalue()


def table_csv(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under `headers`; UTF-8 with a byte-order mark, as above."""
    out = StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerows([[text_cell(cell) for cell in row] for row in (headers, *rows)])
    return "\ufeff" + out.getvalue()


def text_cell(text: str) -> str:
    """`text` as a cell that stays text: one that a spreadsheet would take for a formula starts with an apostrophe."""
    head = unicodedata.normalize("NFKC", text[:1])
    return f"'{text}" if head.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text
