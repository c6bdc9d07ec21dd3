"""The command line, typed as `transfer-lab` or `python -m tl_core`:
`inspect | train | predict | export | push | deploy-space | doctor`.

Results go to stdout, progress to stderr. A user's mistake is one sentence and exit status 2; Ctrl-C keeps the best
so far. Heavy imports happen inside the commands, so that `--help` and a wrong path answer at once.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tl_core import disk, redaction, wording
from tl_core.cli import export as export_command
from tl_core.cli import hub as hub_commands
from tl_core.cli import train as train_command
from tl_core.cli.reading import add_way, describe, oddities, prepared, summary
from tl_core.cli.terminal import print_json, program, show
from tl_core.errors import OptionError, TLError
from tl_core.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status."""
    redaction.install()
    args = _parser().parse_args(arguments)
    try:
        status: int = args.run(args) or 0
        sys.stdout.flush()
    except TLError as error:
        return _refuse(str(error))
    except BrokenPipeError:  # whoever was reading has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if (sentence := disk.trouble(error, getattr(args, "out", None) or Path.cwd())) is not None:
            return _refuse(str(sentence))
        if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
            raise
        # a path the person named, which cannot be read or written
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
    parser = argparse.ArgumentParser(prog=program(), description="Image classifiers from picture folders.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    inspect = commands.add_parser("inspect", help="say what a zip or folder of pictures is understood as")
    inspect.add_argument("data", type=Path, metavar="DATA", help="a zip, tar or folder of pictures, or hf://user/name")
    add_way(inspect)
    inspect.set_defaults(run=_inspect)

    train = commands.add_parser("train", help="train a model and save it as a bundle")
    train_command.add_options(train)
    train.set_defaults(run=train_command.run)

    predict = commands.add_parser("predict", help="classify pictures with a bundle")
    predict.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder or zip, or hf://user/name")
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    predict.add_argument("--csv", type=Path, metavar="FILE", help="write a table that spreadsheets can open")
    predict.set_defaults(run=_predict)

    export = commands.add_parser("export", help="a bundle as ONNX, web page, script …, checked against the app")
    export_command.add_options(export)
    export.set_defaults(run=export_command.run)

    push = commands.add_parser("push", help="put a bundle on the Hugging Face Hub")
    hub_commands.add_push(push)
    deploy = commands.add_parser("deploy-space", help="put this app on a Hugging Face Space")
    hub_commands.add_deploy(deploy)

    doctor = commands.add_parser("doctor", help="say what this machine has and how fast it is")
    doctor.set_defaults(run=_doctor)
    for command in (inspect, train, predict, export, push, deploy, doctor):
        command.add_argument("--json", action="store_true", help="end with one JSON object on stdout")
    return parser


def _inspect(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="tl-inspect-") as scratch:
        understood = prepared(args.data, Path(scratch, "set"), lambda: False, way=args.classes_from)
        describe(understood)
        if args.json:
            print_json(summary(understood.images) | oddities(understood))


def _predict(args: argparse.Namespace) -> int:
    from huggingface_hub import get_token

    from tl_core.bundle.files import from_zip
    from tl_core.bundle.predictor import Prediction, Predictor
    from tl_core.bundle.table import predictions_csv
    from tl_core.data.intake import decode_files
    from tl_core.hub.fetch import fetch, name_of
    from tl_core.hub_data.fetch import from_hub

    for file in args.images:
        if not file.is_file():
            raise OptionError(option="IMAGE", found=f"no file “{file}”", needed="the path of a picture is needed")
    with tempfile.TemporaryDirectory(prefix="tl-predict-") as scratch:
        folder = args.bundle
        if from_hub(folder):
            folder = Path(scratch, "fetched")
            show(fetch(name_of(str(args.bundle).replace("hf:/", "hf://", 1)), folder, token=get_token() or ""))
        elif not folder.is_dir():
            folder = from_zip(folder, Path(scratch, folder.stem))
        predictor = Predictor(folder)
    decoded = decode_files(args.images, Settings.from_environment())
    names = predictor.info.class_names
    answers = iter(predictor.predict([d for d in decoded if not isinstance(d, str)], top_k=len(names)))
    rows: list[tuple[str, Prediction | str]] = []
    for file, pixels in zip(args.images, decoded, strict=True):
        result = wording.SKIP_REASONS[pixels] if isinstance(pixels, str) else next(answers)
        rows.append((str(file), result))
        print(f"{file}: {_said(result)}")
    if args.csv:
        args.csv.write_text(predictions_csv(rows, names), encoding="utf-8")
    if args.json:
        print_json({"predictions": [_prediction_record(file, result) for file, result in rows]})
    return 2 if all(isinstance(result, str) for _, result in rows) else 0


def _said(result: Any) -> str:
    if isinstance(result, str):
        return f"cannot be used: {result}"
    doubt = "  (like nothing it was taught)" if result.strange else ""
    return f"{result.label}  {result.confidence:.1%}{doubt}"


def _prediction_record(file: str, result: Any) -> dict[str, Any]:
    if isinstance(result, str):
        return {"file": file, "problem": result}
    return {
        "file": file,
        "label": result.label,
        "confidence": result.confidence,
        "unknown": result.unknown,
        "strange": result.strange,
        "likely": list(result.likely),
        "ranking": dict(result.ranking),
    }


def _doctor(args: argparse.Namespace) -> None:
    from tl_core.doctor import examine

    found = examine(Settings.from_environment())
    for name, value in found.items():
        shown = "\n" + "\n".join(f"  {line}" for line in value) if isinstance(value, list) else value
        print(f"{name}: {shown}")
    if args.json:
        print_json(found)
