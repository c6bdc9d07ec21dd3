"""The command line: `python -m tl_core inspect | train | predict | doctor`.

Results go to stdout, progress to stderr. A user's mistake is one sentence and exit status 2; Ctrl-C keeps the best
so far. Heavy imports happen inside the commands, so that `--help` and a wrong path answer at once.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tl_core import wording
from tl_core.bundle.files import MANIFEST
from tl_core.data.imageset import PIXELS, ImageSet
from tl_core.data.intake import prepare
from tl_core.errors import NothingTrainedError, OptionError, TLError, refuse_foreign
from tl_core.events import Event, Finished, Notice, Progress
from tl_core.models.catalogue import find
from tl_core.settings import Settings

_BAR = 24


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status."""
    args = _parser().parse_args(arguments)
    try:
        status: int = args.run(args) or 0
        sys.stdout.flush()
    except TLError as error:
        return _refuse(str(error))
    except BrokenPipeError:  # whoever was reading has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a path the person named that cannot be read or written
        if error.filename is None or error.strerror is None:
            raise
        return _refuse(
            f"“{error.filename}” cannot be used: {error.strerror}. Choose another place, or change its permissions."
        )
    except KeyboardInterrupt:
        return 130
    return status


def _refuse(sentence: str) -> int:
    print(f"\r\033[K{sentence}" if sys.stderr.isatty() else sentence, file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tl_core", description="Image classifiers from picture folders.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    inspect = commands.add_parser("inspect", help="say what a zip or folder of pictures is understood as")
    inspect.add_argument("data", type=Path, metavar="DATA", help="a zip or folder with one folder of pictures a class")
    inspect.set_defaults(run=_inspect)

    train = commands.add_parser("train", help="train a model and save it as a bundle")
    train.add_argument("data", type=Path, metavar="DATA", help="a zip or folder with one folder of pictures a class")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the result goes")
    train.add_argument("--backbone", default="auto", metavar="NAME", help="auto (default) or a name `doctor` lists")
    train.add_argument("--effort", choices=["quick"], default="quick", help="how long to try (default: quick)")
    train.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    train.add_argument("--seed", type=int, default=0)
    train.set_defaults(run=_train)

    predict = commands.add_parser("predict", help="classify pictures with a bundle")
    predict.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder or zip")
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    predict.add_argument("--csv", type=Path, metavar="FILE", help="write a table that spreadsheets can open")
    predict.set_defaults(run=_predict)

    doctor = commands.add_parser("doctor", help="say what this machine has and how fast it is")
    doctor.set_defaults(run=_doctor)
    for command in (inspect, train, predict, doctor):
        command.add_argument("--json", action="store_true", help="end with one JSON object on stdout")
    return parser


def _inspect(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="tl-inspect-") as scratch:
        images = _prepared(args.data, Path(scratch, "set"), lambda: False)
        _describe(images)
        if args.json:
            _print_json(_summary(images) | {"remarks": [wording.remark(found) for found in images.remarks]})


def _train(args: argparse.Namespace) -> None:
    if not 0 <= args.seed < 2**31:
        raise OptionError(option="--seed", found=args.seed, needed=f"a number from 0 to {2**31 - 1} is needed")
    if args.backbone != "auto":
        find(args.backbone)
    refuse_foreign(args.out / "bundle", MANIFEST)
    with _stop_flag() as should_stop:
        images = _prepared(args.data, args.out / "set", should_stop)
        _describe(images)
        from tl_core.models.availability import best_local
        from tl_core.training.plan import Machine, make_plan
        from tl_core.training.run import REPORT, train

        settings = Settings.from_environment()
        plan = make_plan(
            args.backbone,
            local=best_local(),
            pictures=len(images.pictures),
            classes=len(images.class_names),
            seed=args.seed,
            machine=Machine(settings),
            effort=args.effort,
        )
        events = train(images, args.out, plan=plan, settings=settings, device=args.device, should_stop=should_stop)
        finished = _show(events)
    assert isinstance(finished, Finished)
    report = json.loads((args.out / REPORT).read_text(encoding="utf-8"))
    scores = report["evaluation"]
    low, high = scores["interval"]
    print(
        f"Right {scores['accuracy']:.1%} of the time on {scores['tested']} test pictures "
        f"(95 % interval {low:.1%} to {high:.1%}; always guessing the commonest class: {scores['majority']:.1%})."
    )
    print(f"Model: {finished.bundle}")
    if args.json:
        _print_json(
            {
                **_summary(images),
                "accuracy": scores["accuracy"],
                "interval": scores["interval"],
                "majority": scores["majority"],
                "tested": scores["tested"],
                "backbone": report["backbone"],
                "seconds": report["seconds"],
                "reason": finished.reason,
                "bundle": finished.bundle,
            }
        )


def _predict(args: argparse.Namespace) -> int:
    from tl_core.bundle.files import from_zip
    from tl_core.bundle.predictor import Prediction, Predictor
    from tl_core.bundle.table import predictions_csv
    from tl_core.data.intake import decode_files

    for file in args.images:
        if not file.is_file():
            raise OptionError(option="IMAGE", found=f"no file “{file}”", needed="the path of a picture is needed")
    with tempfile.TemporaryDirectory(prefix="tl-predict-") as scratch:
        folder = args.bundle if args.bundle.is_dir() else from_zip(args.bundle, Path(scratch, args.bundle.stem))
        predictor = Predictor(folder)
    decoded = decode_files(args.images, Settings.from_environment())
    names = predictor.info.class_names
    answers = iter(predictor.predict([d for d in decoded if not isinstance(d, str)], top_k=len(names)))
    rows: list[tuple[str, Prediction | str]] = []
    for file, pixels in zip(args.images, decoded, strict=True):
        result = wording.SKIP_REASONS[pixels] if isinstance(pixels, str) else next(answers)
        rows.append((str(file), result))
        said = f"cannot be used: {result}" if isinstance(result, str) else f"{result.label}  {result.confidence:.1%}"
        print(f"{file}: {said}")
    if args.csv:
        args.csv.write_text(predictions_csv(rows, names), encoding="utf-8")
    if args.json:
        _print_json({"predictions": [_prediction_record(file, result) for file, result in rows]})
    return 2 if all(isinstance(result, str) for _, result in rows) else 0


def _prediction_record(file: str, result: Any) -> dict[str, Any]:
    if isinstance(result, str):
        return {"file": file, "problem": result}
    return {"file": file, "label": result.label, "confidence": result.confidence, "ranking": dict(result.ranking)}


def _doctor(args: argparse.Namespace) -> None:
    from tl_core.doctor import examine

    found = examine(Settings.from_environment())
    for name, value in found.items():
        shown = "\n" + "\n".join(f"  {line}" for line in value) if isinstance(value, list) else value
        print(f"{name}: {shown}")
    if args.json:
        _print_json(found)


def _prepared(data: Path, folder: Path, should_stop: Callable[[], bool]) -> ImageSet:
    """The set in `data`, read into `folder`, or the one that is there already from the same unchanged data."""
    stamp_file = folder / "source.json"
    stamp = _stamp(data)
    try:
        if stamp is not None and json.loads(stamp_file.read_text()) == stamp and (folder / PIXELS).exists():
            return ImageSet.load(folder)
    except (OSError, ValueError, KeyError):
        pass  # read anew
    _show(prepare(data, folder, Settings.from_environment(), should_stop=should_stop))
    if should_stop():
        raise NothingTrainedError
    stamp_file.write_text(json.dumps(stamp))
    return ImageSet.load(folder)


def _stamp(data: Path) -> list[Any] | None:
    """What identifies an unchanged zip; None for a folder, whose files may change without a trace."""
    if not data.is_file():
        return None
    status = data.stat()
    return [str(data.resolve()), status.st_size, status.st_mtime_ns]


def _describe(images: ImageSet) -> None:
    print(f"{len(images.pictures)} pictures in {len(images.class_names)} classes:")
    for label, count in zip(images.class_names, images.counts(), strict=True):
        print(f"  {label}: {count}")
    parts = {part: count for part, count in images.part_counts().items() if part}
    if parts:
        print("Parts in the upload: " + ", ".join(f"{part} {count}" for part, count in parts.items()))
    for found in images.remarks:
        print(wording.remark(found))
    if images.skipped:
        print(f"{len(images.skipped)} files are not used:")
    for skipped in images.skipped:
        print(f"  {skipped.name}: {wording.SKIP_REASONS[skipped.reason]}")


def _summary(images: ImageSet) -> dict[str, Any]:
    return {
        "images": len(images.pictures),
        "classes": dict(zip(images.class_names, images.counts(), strict=True)),
        "skipped": [{"name": s.name, "reason": s.reason} for s in images.skipped],
    }


def _show(events: Iterator[Event]) -> Event | None:
    """Draw events on stderr as they come; gives the last one."""
    last: Event | None = None
    live = sys.stderr.isatty()
    for event in events:
        last = event
        if isinstance(event, Progress) and live:
            filled = round(_BAR * event.done / max(event.total, 1))
            left = "" if event.seconds_left is None else f"  about {wording.duration(event.seconds_left)} left"
            bar = "█" * filled + "·" * (_BAR - filled)
            print(
                f"\r\033[K{wording.STAGES[event.stage]}  {bar}  {event.done}/{event.total}{left}",
                end="",
                file=sys.stderr,
            )
        elif isinstance(event, Notice):
            print(f"\r\033[K{event.text}" if live else event.text, file=sys.stderr)
    if live:
        print("\r\033[K", end="", file=sys.stderr)
    return last


@contextmanager
def _stop_flag() -> Iterator[Callable[[], bool]]:
    """Ctrl-C once asks to stop and keep the best; twice ends at once."""
    pressed: list[int] = []

    def on_interrupt(number: int, frame: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)
        print("\nStopping; what was learned so far is kept. Press Ctrl-C again to end at once.", file=sys.stderr)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def _print_json(record: dict[str, Any]) -> None:
    print(json.dumps(record, ensure_ascii=False))
