"""Gets weights: from this package, from torch hub's or Hugging Face's cache, or from where those download.

Nothing asks the network first, and nobody waits for it long: a host that does not answer within a few seconds is not
asked again. Downloads are made by the libraries themselves, which check them. Pickled files are only read with
`weights_only`.
"""

import os
import pickle
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tl_core.errors import TLError, WeightsUnavailableError
from tl_core.models.availability import cached_file, huggingface_cache, is_local
from tl_core.models.catalogue import Backbone

WEIGHTS_DIR = Path(__file__).with_name("weights")
SCALE = ":scale"  # ends the name of what int8 weights are to be multiplied by
# Every this many seconds without a byte, a download counts as dead.
_DOWNLOAD_STALL_SECONDS = 20


def embedded_state(row: Backbone) -> dict[str, Tensor]:
    """The weights in this package, under timm's names, as float32."""
    return dequantised(load_file(WEIGHTS_DIR / row.weights))


def dequantised(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """float32 of what is kept as float16, or as int8 beside "<name>:scale": (C,), one for each output channel."""
    whole = {}
    for name, value in state.items():
        if (scale := state.get(f"{name}{SCALE}")) is not None:
            whole[name] = value.float() * scale.float().view(-1, *[1] * (value.ndim - 1))
        elif not name.endswith(SCALE):
            whole[name] = value.float() if value.is_floating_point() else value
    return whole


def torchvision_state(row: Backbone, timeout: float) -> dict[str, Tensor]:
    """The weights of a row of torchvision's, under torchvision's names. Raises WeightsUnavailableError."""
    weights = torchvision.models.get_weight(row.weights)
    if not is_local(row) and not _answers(weights.url, timeout):
        raise WeightsUnavailableError(title=row.title)
    with readable(row), _socket_timeout(_DOWNLOAD_STALL_SECONDS):
        # Once cached this opens the file only; `check_hash` guards the download.
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    return state


def timm_file(row: Backbone, timeout: float) -> Path:
    """The file with the weights of a row of timm's. Raises WeightsUnavailableError."""
    if (cached := cached_file(row)) is not None:
        return cached
    repository, _, name = row.hub_file.rpartition("/")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    # Asked first because huggingface_hub alone takes up to 23 seconds to give up on a host that is not there.
    offline = huggingface_hub.is_offline_mode()
    if offline or not _answers(f"{endpoint}/{repository}/resolve/main/{name}", timeout):
        raise WeightsUnavailableError(title=row.title)
    try:
        # token=False: these are public; without it the library would send the token of whoever runs this machine.
        file = huggingface_hub.hf_hub_download(
            repository, name, cache_dir=huggingface_cache(), endpoint=endpoint, etag_timeout=timeout, token=False
        )
    except Exception as error:  # refusals, lost connections, full disks: httpx2's share no base with the others
        raise WeightsUnavailableError(title=row.title) from error
    return Path(file)


@contextmanager
def readable(row: Backbone) -> Iterator[None]:
    """What a file raises that was cut off, or holds another network or no weights, becomes WeightsUnavailableError."""
    try:
        yield
    except TLError:
        raise
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise WeightsUnavailableError(title=row.title) from error


def _answers(url: str, timeout: float) -> bool:
    """Whether the host of `url` says anything within `timeout` seconds, counted on the clock: a socket's own limit
    holds for every address of the host anew, and not while its name is looked up."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
                answers.append(True)
        except urllib.error.HTTPError as error:  # what is wrong, if it is, the download finds out
            answers.append(error.code < 500)
        except (OSError, ValueError):
            answers.append(False)

    if timeout <= 0:
        return False
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return bool(answers and answers[0])


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
