"""Sentences count in plain English, whatever kind of number they are given."""

import re

import pytest

from tl_core.filling import fill
from tl_ui.words import table


@pytest.mark.parametrize(
    ("count", "said"), [(1, "1 picture is"), ("1", "1 picture is"), (0, "0 pictures are"), (1234, "1234 pictures are")]
)
def test_a_number_says_what_it_counts(count: object, said: str) -> None:
    assert fill("{count:picture is|pictures are} fine, {name} and {share:.1f}", count=count, name="a|b", share=2) == (
        f"{said} fine, a|b and 2.0"
    )


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError):
        fill("{count:picture|pictures}")


def test_no_sentence_leaves_the_counting_to_the_reader() -> None:
    assert not {key: text for key, text in table("en").items() if re.search(r"\((?:e?s|ies)\)", text)}
