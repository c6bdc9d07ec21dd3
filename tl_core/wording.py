"""English for the codes the core reports: why a file was left out, what is odd about a set, what a stage does.

Errors carry their own sentence (`errors.py`). The page has the same in other languages.
"""

from collections import Counter
from collections.abc import Mapping

from tl_core.data.findings import Finding
from tl_core.data.imageset import Classes, ImageSet
from tl_core.events import Notice
from tl_core.filling import fill

SKIP_REASONS = {
    "not_a_picture": "not a picture of a kind that can be read",
    "empty_file": "the file is empty (0 bytes)",
    "damaged": "the picture is damaged or cut off",
    "unsupported_picture": "a rare variant of its format; save it anew as JPEG or PNG",
    "too_many_pixels": "the picture has too many pixels",
    "too_large_file": "the file is too large",
    "password": "the file is protected by a password",
    "unsupported_compression": "packed in a way that cannot be unpacked here",
    "link": "a link, not a file",
    "special_file": "a device, a pipe or a sparse file, not an ordinary one",
    "nested_archive": "an archive inside the archive; unpack it first",
    "no_class_folder": "not in the folder of a class",
    "outside_parts": "beside the folders for training and testing",
    "no_class_in_name": "its name does not say a class",
    "not_in_table": "the table of classes does not list it",
    "table_too_long": "the table of classes has too many rows to read all of them",
    "no_label_in_table": "the table of classes names no class for it",
    "several_labels": "the table of classes names more than one class for it",
    "label_table": "the table of classes itself",
    "annotation": "a mask or outline that belongs to another picture",
    "no_permission": "this program may not read it",
    "name_unusable": "its name points outside of the upload",
    "name_too_long": "its name or path is too long",
    "crashed": "it could not be read within the limits of this machine",
}

FINDINGS = {
    "too_few": (
        "Class “{label}” has {found:usable picture|usable pictures}; "
        "at least {needed} different ones are needed in every class. Add pictures, or leave the class out."
    ),
    "copies_across_classes": (
        "{count:picture is|pictures are} in more than one class, for instance “{first}” and “{second}”. "
        "Keep each picture in one class only."
    ),
    "copies_across_split": (
        "{count} of the pictures to test on are also among the training pictures. "
        "They take no part in the test, so that the score stays honest."
    ),
    "leak_measured": (
        "{count} of the pictures to test on are also among the training pictures. They take no part in the test: with "
        "them, a quick model scored {faked} %, and {honest} % on the honest rest."
    ),
    "leak_faked": (
        "{count} of the pictures to test on are also among the training pictures, which fakes the score: a quick model "
        "seemed {faked} % right, and is {honest} % right on the honest rest. They take no part in the test."
    ),
    "copies": (
        "{count:picture is an exact copy|pictures are exact copies} of others. Copies stay on one side of the split."
    ),
    "near_copies": (
        "{count:picture is|pictures are} nearly the same as others (another size, cut or quality). "
        "They stay on one side of the split."
    ),
    "alike": (
        "The pictures of “{label}” are nearly all the same, as when taken in one go, so the score will flatter. "
        "Add pictures from other days, places or sides."
    ),
    "small_classes": (
        "{count:class has|classes have} fewer than {least} pictures ({classes}). More pictures would help most there."
    ),
    "unequal_classes": (
        "“{large}” has {large_count} pictures, “{small}” only {small_count}. Rare classes will count for more; "
        "more pictures of “{small}” would help further."
    ),
    "one_colour": "{count:picture is|pictures are} of one colour only: there is nothing to see.",
    "tiny": "{count:picture is|pictures are} smaller than {least} pixels, so there is little to see.",
    "outliers": "{count:picture looks|pictures look} more like another class. Is that the right class?",
}

FIXES = {
    "leave_out_class": "Leave out “{label}”",
    "leave_out_small": "Leave these classes out",
    "keep_in": "Keep it in “{label}”",
    "leave_out": "Leave out",
    "leave_out_all": "Leave them all out",
    "keep_one": "Keep one of each",
    "move_to": "Move to “{label}”",
    "fine": "Fine as it is",
}

EDITS = {
    "relabel": "The classes are read another way.",
    "drop": "{count:picture|pictures} left out.",
    "move": "{count:picture|pictures} moved to “{to}”.",
    "rename": "“{label}” is now called “{to}”.",
    "leave_out": "Class “{label}” left out.",
    "accept": "{count:picture is|pictures are} fine.",
}

TRAITS = {
    "turned": "{count:picture|pictures} turned upright from lying on the side.",
    "first_frame": "{count:file holds|files hold} several pictures; the first of each is used.",
    "transparent": "{count:picture|pictures} with transparent places, shown on white.",
    "deep": "{count:picture|pictures} had more than 8 bits of brightness, which were scaled, not cut off.",
    "mended": "{count:picture was|pictures were} slightly damaged, but complete.",
}

WAYS = {
    "folders": "the folders",
    "subfolders": "only the folders in “{folder}”",
    "names": "the file names",
    "table": "column “{column}” of “{file}”",
    "columns": "the columns {column} of “{file}”",
}

NOTICES = {
    "time_limit": (
        "The training took as long as one may here ({minutes} minutes) and was finished with the best it had by then."
    ),
    "dataset_sampled": "“{repo}” has {total} pictures; {taken} of them, spread evenly, are taken.",
    "dataset_full": "Only the first {taken} pictures of “{repo}” were taken: there is no room for more.",
    "dataset_columns": "Pictures were taken from column “{column}”; there are others: {others}.",
    "dataset_config": (
        "“{repo}” has several versions; “{name}” was taken. For another, write it behind a colon: {others}."
    ),
    "dataset_lost": "{count:picture|pictures} of “{repo}” left out: empty, too large or unreadable.",
    "copies_moved": (
        "{count:test picture|test pictures} with a copy among the training pictures went to training instead."
    ),
    "split_made_anew": (
        "The split that came with the pictures could not be kept, because a class has no pictures on one side of it; "
        "a new one was made."
    ),
    "untested_classes": (
        "{count:class has|classes have} no test picture ({classes}), so the score says nothing about them."
    ),
    "stopped_early": "Stopped early: the model was made from {count} of {total} pictures.",
    "backbone_fallback": (
        "The weights of {title} are not on this machine and could not be downloaded; "
        "the built-in backbone was used instead."
    ),
    "backbone_chosen": "{title} tells these classes apart best of the networks on this machine.",
    "framing_crop": (
        "Many pictures are far from square. Showing them whole, squeezed or with bars added, told the classes of "
        "{count} training pictures apart no better for sure, so the middle is cut out."
    ),
    "framing_not_compared": (
        "Many pictures are far from square. Comparing ways of showing them whole would take too long on this machine "
        "as busy as it is, so the middle is cut out."
    ),
    "framing_squash": (
        "Many pictures are far from square. Squeezing them whole into a square got {right} of {count} training "
        "pictures right, cutting out the middle {own}, so they are squeezed."
    ),
    "framing_pad": (
        "Many pictures are far from square. Showing them whole with bars added got {right} of {count} training "
        "pictures right, cutting out the middle {own}, so bars are added."
    ),
    "too_few_to_tune": (
        "There are too few different pictures for more than the quick way: none could be kept aside to check it."
    ),
    "no_mirror": "Mirrored pictures look like other classes here, so pictures were not mirrored while learning.",
    "memory_short": (
        "Memory ran short; learning goes on with {pictures:picture|pictures} at a time, {size} pixels wide."
    ),
    "checkpoint_damaged": "What was kept last is damaged, so what it held is learned again.",
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
    "framing_compare": "Many pictures are far from square, so ways of making them square will be compared.",
    "framing_crop": "The middle of each picture is cut out, as asked.",
    "framing_squash": "Pictures are squeezed into a square, as asked.",
    "framing_pad": "Pictures are shown whole with bars added, as asked.",
    "tuning_none": (
        "What it knows about pictures stays as it is; only telling your classes apart is learned, which is quick."
    ),
    "tuning_not_trees": "With trees as its last part the network cannot be fine-tuned, so it stays as it is.",
    "tuning_unused": "The network stays as it is, as asked, so rounds, picture size, rates and mixing have no effect.",
    "tuning_all": "The whole network learns from your pictures in {epochs:round|rounds}.",
    "tuning_last": (
        "The upper part of the network learns from your pictures in {epochs:round|rounds}; "
        "all of it would take too long."
    ),
    "tuning_last_asked": (
        "The last blocks of the network learn from your pictures in {epochs:round|rounds}, as asked."
    ),
    "tuning_too_slow": "Letting the network itself learn would take too long on this machine, so it stays as it is.",
}

STAGES = {
    "fetching": "Fetching the data set",
    "reading": "Reading the pictures",
    "reviewing": "Looking closer at the pictures",
    "backbone": "Fetching what is already known about pictures",
    "comparing": "Comparing what suits these pictures",
    "features": "Looking at every picture",
    "solving": "Learning to tell the classes apart",
    "framing": "Preparing pictures for the rounds",
    "tuning": "Learning from your pictures, round by round",
    "evaluating": "Testing on pictures kept aside",
    "saving": "Saving the model",
    "exporting": "Making the file",
    "checking": "Asking it and the app about the same pictures",
    "uploading": "Sending it to the Hugging Face Hub",
}


# Why a form of the model is not offered.
EXPORT_PROBLEMS = {
    "differs": "it answers differently from the app, so it is not offered",
    "too_large": "the model is too large for browsers; take a smaller backbone",
    "not_installed": "the program that makes it is not installed here",
    "other_system": "only a Mac can make and check it",
    "cannot_be_converted": "this kind of network cannot be converted",
}


def notice(code: str, **values: object) -> Notice:
    """The notice called `code`, its sentence filled in."""
    texts = {name: str(value) for name, value in values.items()}
    return Notice(code, fill(NOTICES[code], **texts), texts)


def reason(code: str, values: Mapping[str, object]) -> str:
    """The sentence of a plan's reason."""
    return fill(REASONS[code], **values)


def finding(found: Finding) -> str:
    """The sentence of a finding."""
    return fill(FINDINGS[found.code], **found.values)


def way(found: Classes) -> str:
    """What the classes are read from in this way."""
    return fill(WAYS[found.kind], **found.values)


def traits(images: ImageSet) -> list[str]:
    """A sentence for each thing that had to be done to some of the pictures."""
    totals = Counter(trait for picture in images.pictures for trait in picture.traits)
    return [fill(text, count=totals[trait]) for trait, text in TRAITS.items() if totals[trait]]


def duration(seconds: float) -> str:
    """Seconds as people say them: "8 s", "3 min", "1 h 10 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
