"""English for the codes the core reports: why a file was left out, what is odd about a set, what a stage does.

Errors carry their own sentence (`errors.py`). The page has the same in other languages.
"""

from collections.abc import Mapping

from tl_core.data.imageset import Remark
from tl_core.events import Notice

SKIP_REASONS = {
    "not_a_picture": "not a picture of a kind that can be read",
    "empty_file": "the file is empty (0 bytes)",
    "damaged": "the picture is damaged or cut off",
    "too_many_pixels": "the picture has too many pixels",
    "too_large_file": "the file is too large",
    "password": "the file is protected by a password",
    "unsupported_compression": "packed in a way that cannot be unpacked here",
    "link": "a link, not a file",
    "nested_archive": "an archive inside the archive; unpack it first",
    "no_class_folder": "not in the folder of a class",
    "outside_parts": "beside the folders for training and testing",
    "no_permission": "this program may not read it",
    "name_unusable": "its name points outside of the upload",
    "name_too_long": "its name or path is too long",
    "crashed": "it could not be read within the limits of this machine",
}

REMARKS = {
    "renamed_class": "The folder “{written}” is shown as class “{shown}”.",
    "copies_across_classes": (
        "{count} picture(s) are in more than one class, for instance “{first}” and “{second}”. "
        "Keep each picture in one class only."
    ),
    "copies_across_split": (
        "{count} picture(s) are in both the training and the test part. "
        "They will be used for training only, so that the score stays honest."
    ),
    "copies": "{count} picture(s) are copies of others. Copies stay on one side of the split.",
    "small_classes": "{count} class(es) have fewer than 10 pictures ({classes}). More pictures would help most there.",
    "unequal_classes": (
        "“{large}” has {large_count} pictures, “{small}” only {small_count}. "
        "The smaller class will be harder to recognise; add pictures to it if you can."
    ),
}

NOTICES = {
    "copies_moved": (
        "{count} test picture(s) have a copy among the training pictures and were used for training instead."
    ),
    "split_made_anew": (
        "The split that came with the pictures could not be kept, because a class has no pictures on one side of it; "
        "a new one was made."
    ),
    "untested_classes": ("{count} class(es) have no test picture ({classes}), so the score says nothing about them."),
    "stopped_early": "Stopped early: the model was made from {count} of {total} pictures.",
    "backbone_fallback": (
        "The weights of {title} are not on this machine and could not be downloaded; "
        "the built-in backbone was used instead."
    ),
    "backbone_chosen": "{title} tells these classes apart best of the networks on this machine.",
    "too_few_to_tune": (
        "There are too few different pictures for more than the quick way: none could be kept aside to check it."
    ),
    "no_mirror": "Mirrored pictures look like other classes here, so pictures were not mirrored while learning.",
    "memory_short": "Memory ran short; learning goes on with {pictures} picture(s) at a time, {size} pixels wide.",
    "diverged": "Learning went astray; it went back to the best so far and goes on in smaller steps.",
    "solved_kept": "The rounds brought nothing on pictures held out, so the quick model was kept.",
}

REASONS = {
    "only_embedded": "Only the knowledge of pictures that comes with the program is on this machine.",
    "best_here": "{title} is the strongest network on this machine.",
    "faster": "{title} is used, as {slow} would take too long on this machine.",
    "compare": "{count} networks on this machine will be compared on the training pictures.",
    "balance": "The largest class has {ratio} times the pictures of the smallest, so rare classes count for more.",
    "balance_asked": "Rare classes count for more, as asked.",
    "tuning_none": (
        "What it knows about pictures stays as it is; only telling your classes apart is learned, which is quick."
    ),
    "tuning_not_trees": "With trees as its last part the network cannot be fine-tuned, so it stays as it is.",
    "tuning_unused": "The network stays as it is, as asked, so rounds, picture size, rates and mixing have no effect.",
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
