"""`python -m tl_core train`: alone, with others under torchrun, resumed, or as a job on rented machines."""

import argparse
import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tl_core import disk, wording
from tl_core.bundle.files import MANIFEST, from_zip, present
from tl_core.cli.reading import add_way, describe, prepared, summary, to_train_on
from tl_core.cli.terminal import print_json, program, show, stop_flag
from tl_core.data.edits import Edit, from_record, to_record
from tl_core.data.imageset import ImageSet
from tl_core.data.understand import load
from tl_core.errors import OptionError, TLError, refuse_foreign
from tl_core.events import Failed, Finished, to_line
from tl_core.models.catalogue import find
from tl_core.settings import Settings
from tl_core.training.framing import FRAMINGS
from tl_core.training.plan import Effort, Facts, Machine, Plan, Wishes, make_plan

# What belongs to this machine, not to the command that a rented one is sent.
_LOCAL_OPTIONS = ("data", "out", "resume", "on", "flavor", "job_timeout", "json", "events", "run", "device")
_PLAN, _SET, _EDITS, _START = "plan.json", "set", "edits.json", "start"
_DEFAULTS = {field.name: field.default for field in fields(Wishes)} | {"effort": None}
_PLANNED = tuple(_DEFAULTS)
_AS_BEGUN = "a run goes on here and as it was begun: leave this out, or begin another with --out"


def add_options(train: argparse.ArgumentParser) -> None:
    """The options of the command."""
    train.add_argument(
        "data", type=Path, nargs="?", metavar="DATA", help="a zip, tar or folder of pictures, or hf://user/name"
    )
    add_way(train)
    train.add_argument("--out", type=Path, metavar="DIR", help="where the result goes")
    train.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run in DIR, however it ended")
    train.add_argument("--effort", choices=["quick", "balanced", "best"], help="how long to try (default: quick)")
    train.add_argument("--time-budget", type=float, metavar="S", help="seconds it may take; in place of an effort")
    train.add_argument("--backbone", default="auto", metavar="NAME", help="auto, a name `doctor` lists, or timm/...")
    text = "a bundle's folder or zip: its weights are gone on with, in place of the backbone's own"
    train.add_argument("--start-from", default="", metavar="BUNDLE", help=text)
    train.add_argument("--strategy", default="auto", choices=["auto", "frozen", "last", "all"], help="what learns")
    train.add_argument(
        "--head",
        default="auto",
        choices=["auto", "linear", "mlp", "gru", "lstm", "forest", "boosting", "ensemble"],
        help="what turns features into classes",
    )
    train.add_argument("--epochs", type=int, metavar="N", help="rounds of fine-tuning")
    train.add_argument("--image-size", type=int, metavar="PX", help="pixels a side that the network sees")
    train.add_argument("--schedule", default="auto", choices=["auto", "cosine", "one-cycle"], help="learning rate")
    train.add_argument(
        "--framing", default="auto", choices=["auto", *FRAMINGS], help="how pictures that are not square become so"
    )
    for name, meaning in (
        ("balance", "whether rare classes count for more"),
        ("flips", "whether mirrored pictures show the same class"),
        ("mixup", "whether pictures are mixed while fine-tuning"),
    ):
        train.add_argument(f"--{name}", default="auto", choices=["auto", "on", "off"], help=meaning)
    train.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--on", choices=["here", "hf-jobs"], default="here", help="where: here, or rented from the Hub")
    train.add_argument("--flavor", default="a10g-small", help="the machine to rent (default: a10g-small)")
    train.add_argument("--job-timeout", default="2h", metavar="T", help="when a job is ended (default: 2h)")
    train.add_argument("--events", action="store_true", help="print every event as a line of JSON on stdout")


def run(args: argparse.Namespace) -> int | None:
    """The command; exit status 2 after a `TLError` that was printed as an event."""
    if int(os.environ.get("RANK", "0")):
        return _help(args)
    try:
        _check(args)
        with stop_flag() as should_stop:
            finished = _elsewhere(args, should_stop) if args.on == "hf-jobs" else _here(args, should_stop)
    except TLError as error:
        if not args.events:
            raise
        print(to_line(Failed.of(error)), end="", flush=True)
        return 2
    except Exception as error:  # a full disk is not always an OSError: safetensors has errors of its own
        sentence = disk.trouble(error, args.out or args.resume or Path.cwd())
        if args.events and (sentence or isinstance(error, OSError)):
            print(to_line(Failed.of(sentence) if sentence else Failed("file", str(error))), end="", flush=True)
        raise
    _tell(args, finished)
    return None


def _help(args: argparse.Namespace) -> int:
    """What the launcher's other processes do: the first one reads, decides, writes and speaks, for all of them."""
    from tl_core.training.run import help_train

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first one hears it and tells the others
    try:
        help_train(settings=Settings.from_environment(), device=args.device)
    except TLError:
        return 2
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.resume is not None:
        _check_resume(args)
    elif args.data is None:
        raise OptionError(
            option="DATA", found="nothing", needed="a zip or folder of pictures is needed, or --resume DIR"
        )
    if args.out is None:
        raise OptionError(option="--out", found="nothing", needed="the folder where the result goes is needed")
    for name, low, high in (("seed", 0, 2**31 - 1), ("epochs", 1, 10_000), ("time_budget", 1, 10**6)):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            option = "--" + name.replace("_", "-")
            raise OptionError(option=option, found=f"{value:g}", needed=f"a number from {low} to {high} is needed")
    if args.backbone != "auto":
        row = find(args.backbone)
        if args.image_size is not None and not row.fits(args.image_size):
            step = f"a multiple of {row.size_step}" if row.size_step else "none but its own"
            raise OptionError(option="--image-size", found=args.image_size, needed=f"{row.title} takes {step}")
    if args.start_from and args.on != "here":
        raise OptionError(option="--start-from", found=f"together with --on {args.on}", needed="it works here only")
    if args.image_size is not None and (args.image_size % 32 or not 32 <= args.image_size <= 512):
        raise OptionError(option="--image-size", found=args.image_size, needed="a multiple of 32 up to 512 is needed")
    refuse_foreign(args.out / "bundle", MANIFEST)


def _check_resume(args: argparse.Namespace) -> None:
    """A run that goes on does so by its own plan, on this machine."""
    args.out = args.resume
    if changed := [name for name in _PLANNED if getattr(args, name) != _DEFAULTS.get(name)]:
        option = "--" + changed[0].replace("_", "-")
        raise OptionError(option=option, found="together with --resume", needed=_AS_BEGUN)
    if args.on != "here":
        raise OptionError(option="--on", found=f"{args.on} together with --resume", needed=_AS_BEGUN)


def _here(args: argparse.Namespace, should_stop: Any) -> Finished:
    """Train on this machine."""
    from tl_core.training.device import pick_device
    from tl_core.training.distributed import leave
    from tl_core.training.run import dismiss, finished_earlier, start_afresh, train

    settings = Settings.from_environment()
    if args.device != "auto":
        pick_device(args.device)  # refused before anything is read or replaced
    if args.resume is not None:
        try:
            record = json.loads((args.out / _PLAN).read_text(encoding="utf-8"))
            plan, images = _moved(Plan.from_dict(record), args.out), load(args.out / _SET, _edits(args.out))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OptionError(
                option="--resume", found=f"“{args.out}”", needed="a folder that `train --out` made is needed"
            ) from error
        if (done := finished_earlier(args.out)) is not None:
            dismiss(args.device)
            return done
    else:
        understood = prepared(args.data, args.out / _SET, should_stop, way=args.classes_from, as_lines=args.events)
        if not args.events:
            describe(understood)
        images = to_train_on(understood)
        _start_from(args)
        plan = _plan(args, images, settings)
        start_afresh(args.out)
        (args.out / _EDITS).write_text(json.dumps(to_record(understood.edits)), encoding="utf-8")
        (args.out / _PLAN).write_text(json.dumps(plan.to_dict()), encoding="utf-8")
    if not args.events:
        print(" ".join(wording.reason(reason.code, reason.values) for reason in plan.reasons))
    events = train(images, args.out, plan=plan, settings=settings, device=args.device, should_stop=should_stop)
    last = show(events, as_lines=args.events)
    leave()
    assert isinstance(last, Finished)
    return last


def _edits(out: Path) -> tuple[Edit, ...]:
    """What was chosen about the set of the run in `out`."""
    return from_record(json.loads((out / _EDITS).read_text(encoding="utf-8")))


def _start_from(args: argparse.Namespace) -> None:
    """Copy the bundle that is gone on with into the run, so that it is there whenever the run is."""
    if not args.start_from:
        return
    from tl_core.bundle.bundle import load as load_bundle

    given, kept = Path(args.start_from), args.out / _START
    if given.resolve() != kept.resolve():
        shutil.rmtree(kept, ignore_errors=True)
        if given.is_dir():
            load_bundle(given)  # before anything of it is copied
            kept.mkdir()
            for name in present(given):
                shutil.copyfile(given / name, kept / name)
        else:
            from_zip(given, kept)
    args.start_from, args.backbone = str(kept.resolve()), load_bundle(kept)[1].backbone.id


def _moved(plan: Plan, out: Path) -> Plan:
    """The plan of the run in `out`, wherever that folder lies by now."""
    if not plan.wishes.start_from:
        return plan
    return replace(plan, wishes=replace(plan.wishes, start_from=str((out / _START).resolve())))


def _plan(args: argparse.Namespace, images: ImageSet, settings: Settings) -> Any:
    from tl_core.models.availability import local_rows

    asked = {field.name: getattr(args, field.name) for field in fields(Wishes) if field.name != "effort"}
    effort: Effort = args.effort or ("best" if args.time_budget else "quick")
    return make_plan(Wishes(effort=effort, **asked), Facts.of(images), local=local_rows(), machine=Machine(settings))


def _elsewhere(args: argparse.Namespace, should_stop: Any) -> Finished:
    """Train as a job on Hugging Face, with the token of this machine's owner."""
    from huggingface_hub import get_token

    from tl_core.errors import TokenFormatError
    from tl_core.jobs.hf_jobs import train_remotely

    token = get_token()
    if token is None:
        raise TokenFormatError
    events = train_remotely(
        args.data,
        args.out,
        arguments=_remote_arguments(args),
        flavor=args.flavor,
        token=token,
        timeout=args.job_timeout,
        should_stop=should_stop,
    )
    last = show(events, as_lines=args.events)
    assert isinstance(last, Finished)
    return last


def _remote_arguments(args: argparse.Namespace) -> Sequence[str]:
    """The options the person gave, for the same command on another machine."""
    given: list[str] = []
    for name, value in vars(args).items():
        if name not in _LOCAL_OPTIONS and value is not None:
            given += [f"--{name.replace('_', '-')}", str(value)]
    return given


def _tell(args: argparse.Namespace, finished: Finished) -> None:
    """The score, and where the model is."""
    report = json.loads((args.out / "report.json").read_text(encoding="utf-8"))
    scores = report["evaluation"]
    if not args.events:
        _say(args, finished, report)
    if not args.json:
        return
    told = (
        "accuracy",
        "interval",
        "majority",
        "tested",
        "balanced",
        "balanced_interval",
        "macro_f1",
        "macro_f1_interval",
    )
    crossed = report.get("crossed") or {}
    about = summary(load(args.out / _SET, _edits(args.out))) if (args.out / _SET).is_dir() else {}
    print_json(
        {
            **about,
            **{name: scores.get(name) for name in told},
            "crossed": {name: crossed[name] for name in told if name in crossed} or None,
            "curve": report.get("curve"),
            "backbone": report["backbone"],
            "training": report["training"],
            "seconds": report["seconds"],
            "reason": finished.reason,
            "bundle": finished.bundle,
        }
    )


def _say(args: argparse.Namespace, finished: Finished, report: dict[str, Any]) -> None:
    scores, crossed, curve = report["evaluation"], report.get("crossed"), report.get("curve")
    low, high = scores["interval"]
    print(
        f"Right {scores['accuracy']:.1%} of the time on {scores['tested']} test pictures "
        f"(95 % interval {low:.1%} to {high:.1%}; always guessing the commonest class: {scores['majority']:.1%})."
    )
    if crossed:
        low, high = crossed["interval"]
        told = f"{crossed['accuracy']:.1%} ({low:.1%} to {high:.1%})"
        print(f"Cross-validated over all {crossed['tested']} pictures: {told}.")
    if curve:
        print(f"Twice as many pictures would bring about {100 * curve['gain']:+.1f} points.")
    print(f"Model: {finished.bundle}")
    if finished.reason == "stopped":
        print(f"Stopped early. To go on: {program()} train --resume {args.out}")
