"""Keeps tokens of the Hugging Face Hub out of what a process tells: log records, tracebacks, all of its stderr.

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
_PLAIN = logging.Formatter()
_MADE = logging.getLogRecordFactory()


def redacted(text: str) -> str:
    """`text` with every token in it replaced, known by its form or by the word before it."""
    return _HEADER.sub(rf"\g<1>{HIDDEN}", _TOKEN.sub(HIDDEN, text))


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
    """A record whose text and traceback are redacted before any handler sees them."""
    record = _MADE(*args, **options)
    with contextlib.suppress(TypeError, ValueError, KeyError):  # arguments that do not fit are told by the handler
        text = record.getMessage()
        if (clean := redacted(text)) != text:
            record.msg, record.args = clean, None
    if record.exc_info and record.exc_info[0] is not None:
        record.exc_text = redacted(_PLAIN.formatException(record.exc_info))
    return record
