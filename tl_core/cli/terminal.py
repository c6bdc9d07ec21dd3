"""What the command line shows and how it is interrupted: results on stdout, progress on stderr."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from tl_core import wording
from tl_core.events import EpochEnd, Event, Notice, Planned, Progress, Ready, to_line

_BAR = 24
_TWICE = 1.0  # seconds
T = TypeVar("T")


def program() -> str:
    """What was typed to get here, to be typed again."""
    return "transfer-lab" if Path(sys.argv[0]).stem == "transfer-lab" else "python -m tl_core"


def show(events: Iterator[Event], *, as_lines: bool = False) -> Event | None:
    """Draw events on stderr as they come, or print each as one line of JSON on stdout; gives the last one."""
    last: Event | None = None
    live = sys.stderr.isatty()
    for event in events:
        last = event
        if as_lines:
            print(to_line(event), end="", flush=True)
        elif isinstance(event, Progress) and live:
            filled = round(_BAR * event.done / max(event.total, 1))
            left = "" if event.seconds_left is None else f"  about {wording.duration(event.seconds_left)} left"
            bar = "█" * filled + "·" * (_BAR - filled)
            print(
                f"\r\033[K{wording.STAGES[event.stage]}  {bar}  {event.done}/{event.total}{left}",
                end="",
                file=sys.stderr,
            )
        elif (sentence := _sentence(event)) is not None:
            print(f"\r\033[K{sentence}" if live else sentence, file=sys.stderr)
    if live:
        print("\r\033[K", end="", file=sys.stderr)
    return last


def shown_until(steps: Iterator[Event | T], kind: type[T]) -> T:
    """Draw the events among `steps` as they come; gives the one of `kind` that ends them."""
    found: list[T] = []

    def events() -> Iterator[Event]:
        for step in steps:
            if isinstance(step, kind):
                found.append(step)
            else:
                yield cast(Event, step)

    show(events())
    return found[-1]


def _sentence(event: Event) -> str | None:
    if isinstance(event, Notice):
        return event.text
    if isinstance(event, Planned):
        why = " ".join(wording.reason(reason["code"], reason["values"]) for reason in event.reasons)
        return f"{why} At most about {wording.duration(event.seconds)} in all."
    if isinstance(event, Ready):
        return f"A first model is ready in {event.bundle}; fine-tuning goes on."
    if isinstance(event, EpochEnd):
        return f"Round {event.epoch} of {event.epochs}: right {event.accuracy:.1%} of the time on pictures held out."
    return None


@contextmanager
def stop_flag() -> Iterator[Callable[[], bool]]:
    """Ctrl-C once asks to stop and keep the best; twice ends at once."""
    pressed: list[float] = []

    def on_interrupt(number: int, frame: object) -> None:
        # A launcher passes on what the terminal has sent already: one press, heard twice.
        if pressed and time.monotonic() - pressed[0] > _TWICE:
            raise KeyboardInterrupt
        if pressed:
            return
        pressed.append(time.monotonic())
        print("\nStopping; what was learned so far is kept. Press Ctrl-C again to end at once.", file=sys.stderr)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def print_json(record: dict[str, Any]) -> None:
    """One object on one line of stdout."""
    print(json.dumps(record, ensure_ascii=False))
