"""Fills sentences in. `{count:picture|pictures}` says "1 picture" and "2 pictures"; all else is as in `str.format`."""

import string
from typing import Any


class _Sentences(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        one, counted, many = format_spec.partition("|")
        if counted:
            return f"{value} {one if str(value) == '1' else many}"
        filled: str = super().format_field(value, format_spec)
        return filled


def fill(sentence: str, /, **values: object) -> str:
    """`sentence` with its values. Raises KeyError for one that is missing."""
    return _Sentences().vformat(sentence, (), values)
