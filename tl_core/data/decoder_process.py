"""The limited child: lists an upload, decodes its pictures in order, and writes their pixels. Started by `intake`.

    python -m tl_core.data.decoder_process        (a job as JSON on stdin, one JSON line a picture on stdout)

Address space, file size and open files are limited, the environment holds no secret, and whatever a file does to this
process, its parent only sees the line that is missing and starts another child behind it.
"""

import base64
import hashlib
import json
import os
import resource
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tl_core.data.archive import Member, Source, UnreadableEntryError
from tl_core.data.decode import PictureProblemError, decode
from tl_core.data.imageset import RGB
from tl_core.data.layout import Place, interpret
from tl_core.data.quality import THUMB_SIDE
from tl_core.errors import IntakeError, TooLargeError
from tl_core.settings import Settings


def main() -> None:
    job = json.load(sys.stdin)
    settings = Settings.from_json(job["settings"])
    resource.setrlimit(resource.RLIMIT_AS, (settings.decoder_memory, settings.decoder_memory))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with Source(Path(job["source"]), job["name"], settings) as source:
            _run(source, job, settings)
    except IntakeError as error:
        _say(error=type(error).__name__, values=error.values)
    except MemoryError:
        os._exit(70)


def _run(source: Source, job: dict[str, Any], settings: Settings) -> None:
    places = interpret([member.name for member in source.listing.members])
    members = [member for member in source.listing.members if places[member.name] is not None or job["loose"]]
    skipped = source.listing.skipped + [(name, "no_class_folder") for name, place in places.items() if place is None]
    if job["loose"]:
        skipped = source.listing.skipped
    if len(members) > settings.max_pictures:
        limit = f"{settings.max_pictures:,}"
        raise TooLargeError(found=f"{len(members):,}", unit="pictures", name=source.name, limit=limit)
    _say(total=len(members), skipped=skipped, ignored=source.listing.ignored)
    with Path(job["pixels"]).open("r+b" if job["offset"] else "wb") as out:
        out.seek(job["offset"])
        out.truncate()
        for number, result in _decoded(source, members, job["start"], job["threads"], set(job["blamed"]), settings):
            member = members[number]
            place = places[member.name] or Place("", "")
            row = {"n": number, "name": member.name, "label": place.label, "part": place.part}
            if isinstance(result, str):
                _say(**row, skip=result)
                continue
            pixels, thumb = result
            out.write(pixels.data)
            out.flush()
            _say(**row, height=pixels.shape[0], width=pixels.shape[1], thumb=thumb, hash=_digest(pixels))


Result = str | tuple[RGB, str]


def _decoded(
    source: Source, members: list[Member], start: int, threads: int, blamed: set[int], settings: Settings
) -> Iterator[tuple[int, Result]]:
    """(number, pixels and thumbnail | reason) in order, a few pictures ahead in threads."""

    def one(member: Member) -> Result:
        try:
            pixels = decode(source.read(member), settings)
        except (PictureProblemError, UnreadableEntryError) as error:
            return str(error.args[0])
        small = Image.fromarray(pixels).resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX).convert("L")
        return pixels, base64.b64encode(small.tobytes()).decode()

    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[tuple[int, Future[Result] | None]] = deque()
        for number in range(start, len(members)):
            ahead.append((number, None if number in blamed else pool.submit(one, members[number])))
            if len(ahead) > threads:
                yield _settle(*ahead.popleft())
        while ahead:
            yield _settle(*ahead.popleft())


def _settle(number: int, future: Future[Result] | None) -> tuple[int, Result]:
    return number, "crashed" if future is None else future.result()


def _digest(pixels: RGB) -> str:
    shape = np.array(pixels.shape, dtype=np.int64).tobytes()
    return hashlib.blake2b(shape + pixels.tobytes(), digest_size=16).hexdigest()


def _say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
