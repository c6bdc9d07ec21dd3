"""`export`: a bundle in other forms, each checked first."""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tl_core import wording
from tl_core.bundle.files import from_zip
from tl_core.cli.reading import prepared
from tl_core.cli.terminal import print_json, shown_until
from tl_core.errors import OptionError
from tl_core.exports.process import export
from tl_core.exports.record import KINDS, Export, Kind


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `export`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder or zip")
    parser.add_argument("--to", default="onnx", metavar="KINDS", help=f"one or more of {','.join(KINDS)}")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the files go")
    parser.add_argument(
        "--pictures", type=Path, metavar="DATA", help="a zip or folder of your pictures to ask both about"
    )


def run(args: argparse.Namespace) -> int:
    """Make each kind; 2 when none of them can be offered."""
    kinds = [_kind(name) for name in args.to.split(",")]
    args.out.mkdir(parents=True, exist_ok=True)
    made = []
    with tempfile.TemporaryDirectory(prefix="tl-export-") as scratch:
        bundle = args.bundle if args.bundle.is_dir() else from_zip(args.bundle, Path(scratch, "bundle"))
        pictures = None
        if args.pictures is not None:
            pictures = prepared(args.pictures, Path(scratch, "set"), lambda: False).images.folder
        for kind in kinds:
            steps = export(bundle.resolve(), kind, Path(scratch, "exports"), set_folder=pictures)
            made.append(_delivered(shown_until(steps, Export), args.out))
    if args.json:
        print_json({"exports": made})
    return 2 if all(not record["file"] for record in made) else 0


def _delivered(found: Export, out: Path) -> dict[str, Any]:
    """Copy the file of an export to where it was asked for, and say how it agrees."""
    target = out / Path(found.file).name if found.file else None
    if target is not None:
        shutil.copyfile(found.file, target)
    agreement = found.agreement
    checked = ""
    if agreement is not None:
        whose = "your pictures" if agreement.yours else "drawn pictures"
        checked = (
            f"{agreement.agree} of {agreement.compared} {whose} get the same answer as from the app, "
            f"largest difference {agreement.largest:.4f}"
        )
    problem = wording.EXPORT_PROBLEMS.get(found.problem, "")
    print(f"{found.kind}: {'; '.join(filter(None, (str(target or ''), problem, checked)))}")
    return {
        "kind": found.kind,
        "file": str(target or ""),
        "problem": problem,
        "compared": agreement and agreement.compared,
        "agree": agreement and agreement.agree,
        "largest_difference": agreement and agreement.largest,
    }


def _kind(name: str) -> Kind:
    for kind in KINDS:
        if kind == name.strip():
            return kind
    raise OptionError(option="--to", found=f"“{name}”", needed=f"one or more of {', '.join(KINDS)} is needed")
