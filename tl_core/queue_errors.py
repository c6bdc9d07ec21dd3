"""Why a run cannot wait for its turn here, or nothing can be kept: the part of the `TLError` tree that is about sharing
a machine with others."""

from tl_core.errors import IntakeError, TLError, TrainingError


class QueueError(TrainingError):
    """A run cannot be put into the queue."""


class TooManyRunsError(QueueError):
    code = "too_many_runs"
    sentence = (
        "You have {found} trainings that are running or waiting; more than {limit} at a time are not possible here. "
        "Wait until one is done, or stop one."
    )


class QueueFullError(QueueError):
    code = "queue_full"
    sentence = (
        "{found} trainings of other people are waiting already, and no more fit. Your pictures are kept: try again in "
        "about {minutes:minute|minutes}."
    )


class QueueUnreachableError(QueueError):
    code = "queue_unreachable"
    sentence = (
        "The list of trainings cannot be reached at the moment. Nothing is lost: wait a minute, then do it again. If "
        "it stays so, tell whoever runs this page."
    )


class QueueDiskError(QueueUnreachableError):
    code = "queue_disk"
    sentence = (
        "Nothing can be written on the disk of this machine, so the list of trainings stays as it was. Free some "
        "space, then do it again."
    )


class OwnerFullError(IntakeError):
    code = "owner_full"
    sentence = (
        "Your pictures and models take {found} here, of {limit} that one person may use. Delete earlier ones under "
        "“Your data here”, then try again."
    )


class DataFolderError(TLError):
    code = "data_folder"
    sentence = (
        "“{folder}” cannot be written to ({problem}), so nothing could be kept. Choose another folder with the "
        "variable TL_DATA_DIR, or change who may write there."
    )


class NewerDataError(TLError):
    code = "newer_data"
    sentence = (
        "What is kept in “{folder}” was written by a newer Transfer Lab (form {found}; this one knows {known}). Start "
        "that one, or choose another folder with the variable TL_DATA_DIR."
    )


class DiskFailedError(IntakeError):
    code = "disk_failed"
    sentence = (
        "The disk of this machine could not be written to. What was kept before is still there: try again, and if it "
        "stays so, have the disk looked at."
    )


class ClusterMissingError(QueueError):
    code = "cluster_missing"
    sentence = (
        "TL_RAY_ADDRESS is set, so trainings should go to a Ray cluster, but Ray is not installed here. Install it "
        'with pip install "ray[default]", or unset the variable to train on this machine.'
    )
