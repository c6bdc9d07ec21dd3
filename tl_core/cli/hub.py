"""`push` and `deploy-space`: to the Hugging Face Hub with the token of whoever runs this machine."""

import argparse
import os
import tempfile
from pathlib import Path

from tl_core.bundle.files import from_zip
from tl_core.cli.terminal import print_json, shown_until
from tl_core.events import Progress


def add_push(parser: argparse.ArgumentParser) -> None:
    """The options of `push`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder or zip")
    parser.add_argument("repo", metavar="USER/NAME", help="where to put it; your own user when only a name is given")
    parser.add_argument("--public", action="store_true", help="let everybody see it")
    parser.add_argument("--replace", action="store_true", help="write into a model of that name that exists")
    parser.add_argument("--licence", default="apache-2.0", metavar="ID", help="as the Hub calls it (apache-2.0)")
    parser.add_argument("--data-note", default="", metavar="TEXT", help="where the pictures are from, for the card")
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="of the card")
    parser.add_argument("--no-onnx", action="store_true", help="without the ONNX file and its program")
    _add_token(parser)
    parser.set_defaults(run=_push)


def add_deploy(parser: argparse.ArgumentParser) -> None:
    """The options of `deploy-space`."""
    from tl_core.hub.spaces import ZERO

    parser.add_argument("repo", metavar="USER/NAME", help="the Space to make or to bring up to date")
    parser.add_argument("--hardware", default=ZERO, help=f"what it runs on ({ZERO})")
    parser.add_argument("--storage", default="", metavar="USER/BUCKET", help="a bucket of the Hub to keep data in")
    parser.add_argument("--private", action="store_true", help="only you can see it")
    _add_token(parser)
    parser.set_defaults(run=_deploy)


def _add_token(parser: argparse.ArgumentParser) -> None:
    text = "a file with your access token; else HF_TOKEN or what `hf auth login` keeps is used"
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=text)


def _token(args: argparse.Namespace) -> str:
    """The owner's token. Raises TokenFormatError where there is none, or what cannot be one."""
    from huggingface_hub import get_token

    from tl_core.hub.access import well_formed

    found = (
        args.token_file.read_text(encoding="utf-8") if args.token_file else os.environ.get("HF_TOKEN") or get_token()
    )
    return well_formed(str(found or ""))


def _push(args: argparse.Namespace) -> None:
    token = _token(args)  # before what takes seconds to import
    from tl_core.bundle.bundle import load
    from tl_core.exports.process import export
    from tl_core.hub.checks import PushWish
    from tl_core.hub.publish import publish
    from tl_core.hub.push import Pushed

    wish = PushWish(args.repo, not args.public, args.replace, args.licence, args.data_note, args.language)
    with tempfile.TemporaryDirectory(prefix="tl-push-") as scratch:
        bundle = args.bundle if args.bundle.is_dir() else from_zip(args.bundle, Path(scratch, "bundle"))
        backbone = load(bundle)[1].backbone
        onnx = None if args.no_onnx else export(bundle.resolve(), "onnx", Path(scratch, "exports"))
        steps = publish(bundle, backbone, wish, Path(scratch, "publication"), token=token, onnx=onnx)
        pushed = shown_until((step for step in steps if isinstance(step, Progress | Pushed)), Pushed)
    print(f"Your model is at {pushed.url}")
    if args.json:
        print_json({"repo": pushed.repo_id, "url": pushed.url, "commit": pushed.commit})


def _deploy(args: argparse.Namespace) -> None:
    from tl_core.hub.spaces import Deployed, deploy

    options = {"hardware": args.hardware, "storage": args.storage}
    made = shown_until(deploy(args.repo, token=_token(args), private=args.private, **options), Deployed)
    print(f"Your Space is being built at {made.url}")
    if args.json:
        print_json({"repo": made.repo_id, "url": made.url})
