"""Asks OSV which of the locked packages have known holes, and fails on any that is not allowed here with a reason.

    python -m tools.audit          0: none but those allowed, 1: some, 2: nobody could be asked, so nothing is known
    python -m tools.audit --lock   writes requirements-lock.txt anew from requirements.txt (needs uv)

The lock holds the versions of the environment that runs this, so that what is installed from it is what was tested:

    pip install --require-hashes -r requirements-lock.txt      (Python 3.11 and newer)
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK, WANTED = ROOT / "requirements-lock.txt", ROOT / "requirements.txt"
OLDEST_PYTHON = "3.11"
MOST_DAYS = 180  # after which a reason must be looked at again

_JPEG = (
    "gradio pins pillow<13. Pillow never decodes a stranger's JPEG here: libjpeg-turbo does, in the limited child "
    "(tl_core/data/decode.py; the cases 45 in tests hold it)."
)
_FRAMES = (
    "gradio pins pillow<13. Only the plugins of PNG, GIF, BMP, TIFF, WebP and AVIF are ever called, in the limited "
    "child, never beyond the first frame."
)
_CHILD = (
    "gradio pins pillow<13. Decoding happens in a child without secrets, with limits on memory, time and files, that "
    "is killed with the one picture it was about; what it gives back are pixels alone."
)


@dataclass(frozen=True)
class Allowed:
    """A known hole that we live with: of which package, by any of its names, why, and when that was last looked at."""

    package: str
    names: tuple[str, ...]
    reason: str
    seen: date


ALLOWED = (
    Allowed("pillow", ("GHSA-8g5g-8vmr-9782", "CVE-2026-112403"), _JPEG, date(2026, 11, 29)),
    Allowed("pillow", ("CVE-2026-96778",), _JPEG, date(2026, 11, 29)),
    Allowed("pillow", ("CVE-2026-96636",), _FRAMES, date(2026, 11, 29)),
    Allowed("pillow", ("CVE-2026-96637",), _FRAMES, date(2026, 11, 29)),
    Allowed("pillow", ("CVE-2026-96639",), _CHILD, date(2026, 11, 29)),
    Allowed("pillow", ("CVE-2026-96643",), _CHILD, date(2026, 11, 29)),
)


@dataclass(frozen=True)
class Hole:
    """One answer of OSV about one locked package."""

    package: str
    version: str
    names: tuple[str, ...]
    mended_in: tuple[str, ...]


class NobodyAskedError(Exception):
    """The answer does not cover what was to be asked; nothing may be concluded from it."""


def holes(answer: str) -> list[Hole]:
    """What pip-audit's JSON says is known. Raises NobodyAskedError when it is no such answer, or says nothing at all of
    a package: a registry without a list of holes answers for none."""
    try:
        told = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError) as error:
        raise NobodyAskedError("there was no answer") from error
    silent = [f"{one['name']}: {one['skip_reason']}" for one in told if "skip_reason" in one]
    if silent or not told:
        raise NobodyAskedError("nothing is known about " + ("; ".join(silent[:3]) or "any package"))
    return [
        Hole(one["name"], one["version"], (hole["id"], *hole["aliases"]), tuple(hole["fix_versions"]))
        for one in told
        for hole in one["vulns"]
    ]


def is_allowed(hole: Hole, today: date) -> bool:
    """Whether it is on the list, with a reason that was looked at lately."""
    return any(
        hole.package == one.package and set(hole.names) & set(one.names) and (today - one.seen).days <= MOST_DAYS
        for one in ALLOWED
    )


def ask(lock: Path) -> str:
    """pip-audit's JSON about `lock`; raises NobodyAskedError when it ends without one."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    command += ["--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off", "--timeout", "30"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        last = done.stderr.strip().splitlines()[-1:] or ["pip-audit said nothing"]
        raise NobodyAskedError(last[0][:300])
    return done.stdout


def audit(lock: Path = LOCK) -> int:
    """Ask, and say what was found; the exit status."""
    try:
        found = holes(ask(lock))
    except NobodyAskedError as error:
        print(f"Could not ask OSV about the packages: {error}", file=sys.stderr)
        print("Nothing is known about them. Run this again where api.osv.dev can be reached.", file=sys.stderr)
        return 2
    new = [hole for hole in found if not is_allowed(hole, date.today())]
    for hole in new:
        mended = ", ".join(hole.mended_in) or "no version yet"
        print(f"{hole.package} {hole.version}: {', '.join(hole.names)}; mended in {mended}")
    print(f"{len(found) - len(new)} known and allowed, {len(new)} not.")
    if new:
        print(f"Raise the version and run `python -m tools.audit --lock`, or say in {Path(__file__).name} why not.")
    return 1 if new else 0


def lock() -> int:
    """Write the lock anew with the versions that are installed here; the exit status."""
    installed: dict[str, Any] = {one.metadata["Name"]: one.version for one in distributions()}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as held:
        held.writelines(f"{name}=={version}\n" for name, version in sorted(installed.items()))
        held.flush()
        command = ["uv", "pip", "compile", WANTED.name, "--universal", "--python-version", OLDEST_PYTHON, "--quiet"]
        command += ["--generate-hashes", "--constraint", held.name, "--output-file", LOCK.name, "--no-annotate"]
        command += ["--custom-compile-command", "python -m tools.audit --lock"]
        try:
            return subprocess.run(command, cwd=ROOT, check=False).returncode
        except FileNotFoundError:
            print("uv is needed to write the lock: pip install uv", file=sys.stderr)
            return 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", action="store_true", help="write requirements-lock.txt anew")
    return lock() if parser.parse_args().lock else audit()


if __name__ == "__main__":
    sys.exit(main())
