"""Every message a person may read, as one tree. Anything raised that is not a `TLError` is a bug of ours.

    TLError
    ├─ IntakeError       EmptyUploadError, NotAnArchiveError, OtherArchiveError, BrokenArchiveError,
    │                    PasswordError, UnsafeArchiveError, TooLargeError, NoPicturesError,
    │                    UnreadablePicturesError, OneClassError, TooFewPicturesError, TooManyClassesError,
    │                    IntakeCrashedError, DiskFullError, NoClassFoldersError, CompressionError, NothingLeftError,
    │                    TooSlowError, EmptyArchiveError, SplitArchiveError,
    │                    CollectionFullError
    ├─ PictureError      one picture that cannot be predicted
    ├─ BackboneError     UnknownBackboneError, WeightsUnavailableError
    ├─ TrainingError     NothingTrainedError, TooAlikeError, TrainingCrashedError, NoMemoryError,
    │                    RemoteTrainingError,
    │                    BorrowedTimeError: GpuQuotaError, GpuUnavailableError, GpuInterruptedError
    ├─ BundleError       NotABundleError, DamagedBundleError, NewerFormatError, ExportFailedError
    ├─ OptionError       a value on the command line that cannot be used
    └─ HubError          TokenFormatError, TokenRefusedError, NoWriteAccessError, RepoNameError,
                         RepoExistsError, HubUnreachableError, HubRefusedError, and in hub_errors.py:
                         ReadOnlyTokenError, SignInExpiredError, LicenceConflictError, RepoChangedError, HubBusyError,
                         ModelNotFoundError, NotOurModelError, NothingRunsItError, SpaceRefusedError,
                         PrivateModelError, NotACheckoutError, UnknownFlavorError, JobsRefusedError,
                         PublicRepoError, JobLostError, NotTheHubError, SignInScopeError, HubStorageError,
                         HubWaitError, PublicAlreadyError, GatedModelError, NoTokenError, NoOnnxError, StorageNameError,
                         and in dataset_errors.py:
                         DatasetNameError, DatasetNotFoundError, DatasetGatedError, DatasetConfigError,
                         NoPictureColumnError, DatasetReaderError, DatasetDamagedError, DatasetUnreachableError,
                         DatasetRefusedError, DatasetInterruptedError, and in queue_errors.py:
                         TooManyRunsError, QueueFullError, QueueUnreachableError, QueueDiskError, OwnerFullError,
                         DataFolderError, NewerDataError, DiskFailedError, ClusterMissingError

A message says what was found, what is needed and what to do next. It is a template filled with `values`, so that the
page can say the same in another language; values from outside are shortened and stripped of control characters here.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from tl_core.filling import fill


def plain(value: object, limit: int = 80) -> str:
    """`value` as text that is safe to put in one line: no control or direction characters, at most `limit` long."""
    spaces, nothing = ("Cc", "Cs", "Zl", "Zp", "Zs"), "Cf"
    kinds = ((c, unicodedata.category(c)) for c in str(value))
    text = "".join(" " if kind in spaces else c for c, kind in kinds if kind != nothing)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


class TLError(Exception):
    """A fact the person using the program should hear. `code` names the sentence, `values` fill it."""

    code: ClassVar[str] = "error"
    sentence: ClassVar[str] = "Something went wrong."

    def __init__(self, **values: object) -> None:
        self.values = {name: plain(value) for name, value in values.items()}
        super().__init__(fill(self.sentence, **self.values))


class IntakeError(TLError):
    """The upload cannot become a set of pictures."""


class EmptyUploadError(IntakeError):
    code = "empty_upload"
    sentence = "“{name}” is empty (0 bytes). Choose the zip again; if it stays empty, make a new zip of your folders."


class NotAnArchiveError(IntakeError):
    code = "not_an_archive"
    sentence = (
        "“{name}” is not a zip file. A zip with one folder of pictures for each class is needed. "
        "Select your class folders, choose “Compress” and upload the zip that this makes."
    )


class OtherArchiveError(IntakeError):
    code = "other_archive"
    sentence = "“{name}” is a {kind} archive. A .zip is needed: unpack it and compress the folders again as zip."


class EmptyArchiveError(IntakeError):
    code = "empty_archive"
    sentence = (
        "“{name}” has no files in it at all. Put your pictures in folders, one folder for each class, "
        "and zip those folders."
    )


class SplitArchiveError(IntakeError):
    code = "split_archive"
    sentence = (
        "“{name}” is one part of an archive that was split into several files, and one part cannot be read alone. "
        "Put all parts in one folder, unpack the first one, and zip the folders that come out."
    )


class BrokenArchiveError(IntakeError):
    code = "broken_archive"
    sentence = (
        "“{name}” is incomplete: its end is missing or damaged, as after a download or copy that stopped half-way. "
        "Copy or download it again, or make a new zip."
    )


class PasswordError(IntakeError):
    code = "password"
    sentence = "“{name}” is protected by a password. Make a new zip of the same folders without a password."


class UnsafeArchiveError(IntakeError):
    code = "unsafe_archive"
    sentence = (
        "“{name}” has entries that overlap or claim impossible sizes, so it was not opened. "
        "Make a new zip of your folders and upload that."
    )


class TooLargeError(IntakeError):
    code = "too_large"
    sentence = "Found {found} {unit} in “{name}”; at most {limit} can be used here. Make a smaller zip."


class NoPicturesError(IntakeError):
    code = "no_pictures"
    sentence = (
        "“{name}” holds no pictures. Put your pictures in folders, one folder for each class, and zip those folders."
    )


class UnreadablePicturesError(IntakeError):
    code = "unreadable_pictures"
    sentence = (
        "None of the {found} pictures in “{name}” could be read. JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC files "
        "that open in a picture viewer are needed."
    )


class OneClassError(IntakeError):
    code = "one_class"
    sentence = (
        "Found one class only: “{label}”. At least two are needed, so that there is something to tell apart. "
        "Add a folder with pictures of something else and zip both."
    )


class NothingLeftError(IntakeError):
    code = "nothing_left"
    sentence = "Every picture has been left out, so there is nothing to learn from. Undo the last change."


class TooFewPicturesError(IntakeError):
    code = "too_few_pictures"
    sentence = (
        "Class “{label}” has {found:usable picture|usable pictures}. "
        "At least {needed} different ones are needed in every class. Add pictures to that folder or leave it out."
    )


class TooManyClassesError(IntakeError):
    code = "too_many_classes"
    sentence = "Found {found} classes; at most {limit} can be told apart here. Make a zip with fewer folders."


class IntakeCrashedError(IntakeError):
    code = "intake_crashed"
    sentence = "“{name}” could not be opened within the limits of this machine. Make a smaller zip and try again."


class TooSlowError(IntakeError):
    code = "too_slow"
    sentence = (
        "Reading “{name}” took longer than is allowed here ({done} of {total} pictures were read). "
        "Use fewer or smaller pictures and try again."
    )


class NoClassFoldersError(IntakeError):
    code = "no_class_folders"
    sentence = (
        "Found {found:picture|pictures} in “{name}”, but none in the folder of a class. "
        "Make one folder for each class, put its pictures in it, and zip those folders; or add a table (CSV) with the "
        "columns file and label."
    )


class CompressionError(IntakeError):
    code = "compression"
    sentence = (
        "The files in “{name}” are packed in a way that cannot be unpacked here. "
        "Unpack it on your computer and compress the folders again as an ordinary zip."
    )


class DiskFullError(IntakeError):
    code = "disk_full"
    sentence = "The disk of this machine is full ({free} left). Free some space, then try again."


class CollectionFullError(IntakeError):
    code = "collection_full"
    sentence = (
        "Nothing was added: at most {pictures} pictures in {classes} classes and {size} in all can be collected here. "
        "Remove some first, or use the pictures you have."
    )


class PictureError(TLError):
    code = "picture"
    sentence = "“{name}” could not be used: {reason}. Try another picture."


class BackboneError(TLError):
    """The pretrained network asked for cannot be had."""


class UnknownBackboneError(BackboneError):
    code = "unknown_backbone"
    sentence = "There is no backbone called “{name}”. Did you mean “{closest}”? To choose from: {known}."


class WeightsUnavailableError(BackboneError):
    code = "weights_unavailable"
    sentence = (
        "The pretrained weights of {title} are not on this machine and could not be downloaded. "
        "Connect to the internet and try again, or use the built-in backbone."
    )


class TrainingError(TLError):
    """A run ended without a model."""


class NothingTrainedError(TrainingError):
    code = "nothing_trained"
    sentence = "Training was stopped before there was anything to keep. Start it again when you like."


class TooAlikeError(TrainingError):
    code = "too_alike"
    sentence = (
        "Too many pictures are copies of each other to keep some aside for the test. "
        "Add different pictures to every class and try again."
    )


class TrainingCrashedError(TrainingError):
    code = "training_crashed"
    sentence = (
        "Training ended unexpectedly {times} times, most likely because memory ran out. "
        "Close other programs or use fewer pictures, then try again."
    )


class NoMemoryError(TrainingError):
    code = "no_memory"
    sentence = "Memory does not suffice for a single picture of this network. Choose a smaller one, then try again."


class BorrowedTimeError(TrainingError):
    """The GPU that a run is lent cannot be had."""


class GpuQuotaError(BorrowedTimeError):
    code = "gpu_quota"
    sentence = (
        "Your GPU minutes for today are used up. What was learned so far is kept: go on tomorrow, or go on now on the "
        "processor, which costs nothing and takes longer."
    )


class GpuUnavailableError(BorrowedTimeError):
    code = "gpu_unavailable"
    sentence = (
        "No GPU is free at the moment. What was learned so far is kept: go on in a few minutes, or go on now on the "
        "processor, which takes longer."
    )


class GpuInterruptedError(BorrowedTimeError):
    code = "gpu_interrupted"
    sentence = "Training was interrupted. What was learned so far is kept: go on from there."


class RemoteTrainingError(TrainingError):
    """A job on Hugging Face ended without a model. `tail` is the end of its log, in whole lines."""

    code = "remote_training"
    sentence = (
        "The job on Hugging Face ended without a model ({stage}): {message}. "
        "Its log is at {url}. Mend what it names, then start again."
    )

    def __init__(self, *, tail: Sequence[str] = (), **values: object) -> None:
        super().__init__(**values)
        fill_at_length(self, values)
        self.tail = tuple(tail)


def fill_at_length(error: TLError, values: Mapping[str, object]) -> None:
    """Fill a sentence that quotes whole sentences or an address, which must not be cut at the usual length."""
    error.values = {name: plain(value, 400) for name, value in values.items()}
    error.args = (fill(error.sentence, **error.values),)


class BundleError(TLError):
    """A saved model cannot be used."""


class NotABundleError(BundleError):
    code = "not_a_bundle"
    sentence = "“{name}” is not a model made here: {reason}. Choose the folder or zip you downloaded from Transfer Lab."


class DamagedBundleError(BundleError):
    code = "damaged_bundle"
    sentence = "The model in “{name}” is damaged: {reason}. Download it again."


class NewerFormatError(BundleError):
    code = "newer_format"
    sentence = (
        "“{name}” was made by a newer Transfer Lab (format {found}, this one reads {known}). Update this one first."
    )


class ExportFailedError(BundleError):
    code = "export_failed"
    sentence = (
        "Making this form of the model broke off. The model itself is fine: try once more, or download the model’s zip."
    )


class OptionError(TLError):
    code = "option"
    sentence = "{option}: found {found}; {needed}."


def refuse_foreign(folder: Path, marker: str) -> None:
    """Raise OptionError unless `folder` may be replaced: absent, empty, or ours, which the file `marker` shows."""
    if folder.exists() and not (folder / marker).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(
            option="--out",
            found=f"“{folder.name}” with other files in it",
            needed="choose a folder that is new or empty",
        )


class HubError(TLError):
    """Pushing to the Hugging Face Hub, or fetching a data set from it, did not work."""


class TokenFormatError(HubError):
    code = "token_format"
    sentence = (
        "This is not a Hugging Face access token. One starts with “hf_”; make one with write access at "
        "huggingface.co/settings/tokens and paste the whole of it."
    )


class TokenRefusedError(HubError):
    code = "token_refused"
    sentence = (
        "The Hub does not know this token. It may have been deleted or cut off: make a new one with write access at "
        "huggingface.co/settings/tokens."
    )


class NoWriteAccessError(HubError):
    code = "no_write_access"
    sentence = (
        "This token may not write to “{repo}”. Make a token with write access at huggingface.co/settings/tokens, "
        "or use your own user name before the “/”."
    )


class RepoNameError(HubError):
    code = "repo_name"
    sentence = (
        "“{repo}” cannot be the name of a model on the Hub. Letters, digits, “-”, “_” and “.” are allowed, "
        "as in “my-name/ants-and-bees”."
    )


class RepoExistsError(HubError):
    code = "repo_exists"
    sentence = "You already have a model called “{repo}”. Choose another name, or tick “replace it”."


class HubUnreachableError(HubError):
    code = "hub_unreachable"
    sentence = "The Hugging Face Hub cannot be reached. Check the internet connection; the download still works."


class HubRefusedError(HubError):
    code = "hub_refused"
    sentence = "The Hub refused the upload (status {status}). Wait a minute and try again; the download still works."
