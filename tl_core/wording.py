"""English for the codes the core reports: why a file was left out, what is odd about a set, what a stage does.

Errors carry their own sentence (`errors.py`). The page has the same in other languages.
"""

from collections.abc import Mapping

from tl_core.data.imageset import Remark
from tl_core.events import Notice

SKIP_REASONS = {
    "only_embedded": "Only the knowledge of pictures that comes with the program is on this machine.",
    "best_here": "{title} is the strongest network on this machine.",
    "faster": "{title} is used, as {slow} would take too long on this machine.",
    "compare": "{count} networks on this machine will be compared on the training pictures.",
    "balance": "The largest class has {ratio} times the pictures of the smallest, so rare classes count for more.",
    "balance_asked": "Rare classes count for more, as asked.",
    "tuning_none": "What it knows about pictures stays as it is; only telling your classes apart is learned, which is quick.",
    "tuning_not_trees": "With trees as its last part the network cannot be fine-tuned, so it stays as it is.",
    "tuning_all": "The whole network learns from your pictures in {epochs} round(s).",
    "tuning_last": (
        "The upper part of the network learns from your pictures in {epochs} round(s); all of it would take too long."
    ),
    "tuning_last_asked": "The last blocks of the network learn from your pictures in {epochs} round(s), as asked.",
    "tuning_too_slow": "Letting the network itself learn would take too long on this machine, so it stays as it is.",
}

STAGES = {
    "reading": "Reading the pictures",
    "backbone": "Fetching what is already known about pictures",
    "comparing": "Comparing networks",
    "features": "Looking at every picture",
    "solving": "Learning to tell the classes apart",
    "framing": "Preparing pictures for the rounds",
    "tuning": "Learning from your pictures, round by round",
    "evaluating": "Testing on pictures kept aside",
    "saving": "Saving the model",
}


def notice(code: str, **values: object) -> Notice:
    """The notice called `code`, its sentence filled in."""
    texts = {name: str(value) for name, value in values.items()}
    return Notice(code, NOTICES[code].format(**texts), texts)


def reason(code: str, values: Mapping[str, object]) -> str:
    """The sentence of a plan's reason."""
    return REASONS[code].format(**values)


def remark(found: Remark) -> str:
    """The sentence of a remark."""
    return REMARKS[found.code].format(**found.values)


def duration(seconds: float) -> str:
    """Seconds as people say them: "8 s", "3 min", "1 h 10 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
