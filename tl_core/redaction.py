"""Keeps tokens of the Hugging Face Hub out of what a process tells: log records, tracebacks, all of its stderr. And
keeps every log record what it is: a name with line breaks or terminal codes in it adds no line that looks like another.

The last line of defence: tokens are checked for form before use and errors are our own, yet a library may print the
arguments of a call, and a traceback the header that could not be sent.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

HIDDEN = "hf_…"
# The characters of a sign-in's token include those that end a sentence, which then goes with it.
_TOKEN = re.compile(r"hf_(?:oauth_[A-Za-z0-9._~+/=-]+|[A-Za-z0-9]{8,})")
_HEADER = re.compile(r"(?i)\b(bearer\s+)(?!hf_…)[A-Za-z0-9._~+/=-]{8,}")
# What moves a terminal's cursor, colours it or turns the direction of text. A line break has its own treatment.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_PLAIN = logging.Formatter()
_MADE = logging.getLogRecordFactory()


def redacted(text: str) -> str:
    """`text` with every token in it replaced, known by its form or by the word before it."""
    return _HEADER.sub(rf"\g<1>{HIDDEN}", _TOKEN.sub(HIDDEN, text))


def in_one_record(text: str) -> str:
    """`text` as it may stand in a log: steering characters are written out, and lines after the first are indented, so
    that whatever begins a line is a record of ours."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text).replace("\n", "\n  ")


class RedactingStream:
    """A text stream that tokens never reach; all else about it is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redacted(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def install() -> None:
    """From here on no token reaches this process's stderr or a log record of any logger. Safe to call twice."""
    if sys.stderr is not None and not isinstance(sys.stderr, RedactingStream):
        sys.stderr = RedactingStream(sys.stderr)  # of which it has everything
    logging.setLogRecordFactory(_record)


def _record(*args: Any, **options: Any) -> logging.LogRecord:
    """A record whose text and traceback are redacted, and whose lines cannot be taken for other records, before any
    handler sees them."""
    record = _MADE(*args, **options)
    with contextlib.suppress(TypeError, ValueError, KeyError):  # arguments that do not fit are told by the handler
        text = record.getMessage()
        if (clean := in_one_record(redacted(text))) != text:
            record.msg, record.args = clean, None
    if record.exc_info and record.exc_info[0] is not None:
        record.exc_text = "  " + in_one_record(redacted(_PLAIN.formatException(record.exc_info)))
    return record
