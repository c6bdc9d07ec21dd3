"""The limited child: lists an upload, decodes its pictures in order, and writes their pixels. Started by `intake`.

    python -m tl_core.data.decoder_process        (a job as JSON on stdin, one JSON line a picture on stdout)

Address space, written bytes and open files are limited, the environment holds no secret, and whatever a file does to
this process, its parent only sees the line that is missing and starts another child behind it.
"""

import base64
import errno
import hashlib
import json
import os
import resource
import shutil
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from tl_core.data.archive import Member, Source, UnreadableEntryError
from tl_core.data.decode import PictureProblemError, decode
from tl_core.data.imageset import RGB
from tl_core.data.layout import Place, interpret, looks_like_picture
from tl_core.data.quality import THUMB_SIDE
from tl_core.errors import IntakeError, TooLargeError
from tl_core.settings import Settings

OUT_OF_MEMORY = 70  # exit status


def main() -> None:
    job = json.load(sys.stdin)
    settings = Settings.from_json(job["settings"])
    free = shutil.disk_usage(Path(job["pixels"]).parent).free
    writable = max(1_000_000, free - settings.free_disk_reserve // 2)
    for limit, value in (
        (resource.RLIMIT_AS, settings.decoder_memory),
        (resource.RLIMIT_FSIZE, writable),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    try:
        with Source(Path(job["source"]), job["name"], settings) as source:
            _run(source, job, settings)
    except IntakeError as error:
        _say(error=type(error).__name__, values=error.values)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        _say(error="DiskFullError", values={"free": f"{free / 1e9:.1f} GB"})
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def _run(source: Source, job: dict[str, Any], settings: Settings) -> None:
    """Read the job's share of the pictures: from `start` to before `until`."""
    listing = source.listing
    places = interpret([member.name for member in listing.members])
    if job["loose"]:
        places = dict.fromkeys(places, Place("", ""))
    members = [member for member in listing.members if isinstance(places[member.name], Place)]
    skipped = listing.skipped + [(name, place) for name, place in places.items() if isinstance(place, str)]
    count = sum(looks_like_picture(member.name) for member in members)
    if count > settings.max_pictures:
        limit = f"{settings.max_pictures:,}"
        raise TooLargeError(found=f"{count:,}", unit="pictures", name=source.name, limit=limit)
    _say(total=len(members), skipped=skipped, ignored=listing.ignored)
    mine = range(job["start"], min(job["until"], len(members)))
    with Path(job["pixels"]).open("r+b" if job["offset"] else "wb") as out:
        out.seek(job["offset"])
        out.truncate()
        for number, result in _decoded(source, members, mine, job["threads"], set(job["blamed"]), settings):
            place = places[members[number].name]
            assert isinstance(place, Place)
            row = {"n": number, "name": members[number].name, "label": place.label, "part": place.part}
            if isinstance(result, str):
                _say(**row, skip=result)
                continue
            pixels, thumb, digest = result
            out.write(pixels.data)
            out.flush()
            _say(**row, height=pixels.shape[0], width=pixels.shape[1], thumb=thumb, hash=digest)


Result = str | tuple[RGB, str, str]  # pixels, thumbnail in base64, digest of the file; or the reason why not


def _decoded(
    source: Source, members: list[Member], numbers: range, threads: int, blamed: set[int], settings: Settings
) -> Iterator[tuple[int, Result]]:
    """(number, pixels and thumbnail | reason) in order, a few pictures ahead in threads."""

    def one(member: Member) -> Result:
        try:
            data = source.read(member)
            pixels = decode(data, settings)
        except (PictureProblemError, UnreadableEntryError) as error:
            return str(error.args[0])
        except MemoryError:
            # Too much at once, or too much for one: the parent tries it alone in a fresh child and then knows.
            os._exit(OUT_OF_MEMORY)
        except Exception:  # no decoder's surprise may cost more than its picture; this process is there for that
            return "damaged"
        small = Image.fromarray(pixels).resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX)
        return pixels, base64.b64encode(small.tobytes()).decode(), hashlib.blake2b(data, digest_size=16).hexdigest()

    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[tuple[int, Future[Result] | None]] = deque()
        for number in numbers:
            ahead.append((number, None if number in blamed else pool.submit(one, members[number])))
            if len(ahead) > 4 * threads:  # enough that no thread waits while the pixels are written
                yield _settle(*ahead.popleft())
        while ahead:
            yield _settle(*ahead.popleft())


def _settle(number: int, future: Future[Result] | None) -> tuple[int, Result]:
    return number, "crashed" if future is None else future.result()


def _say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
