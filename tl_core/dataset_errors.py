"""Why a data set of the Hugging Face Hub cannot be had; a branch of the tree in `errors`."""

from tl_core.errors import HubError


class DatasetNameError(HubError):
    code = "dataset_name"
    sentence = (
        "“{name}” is not the name of a data set on the Hub. It looks like “user/name” and stands at the top of the "
        "data set's page; the address of that page works as well."
    )


class DatasetNotFoundError(HubError):
    code = "dataset_not_found"
    sentence = (
        "There is no public data set “{repo}” on the Hub. Check the spelling; if it is private, download it and "
        "upload it here as a zip."
    )


class DatasetGatedError(HubError):
    code = "dataset_gated"
    sentence = (
        "“{repo}” is private or asks for its conditions to be accepted, so it cannot be fetched without signing in. "
        "Download it on the Hub with your own account and upload it here as a zip."
    )


class DatasetConfigError(HubError):
    code = "dataset_config_unknown"
    sentence = "“{repo}” has no version called “{name}”. To choose from: {known}."


class NoPictureColumnError(HubError):
    code = "no_picture_column"
    sentence = (
        "No pictures were found in “{repo}”: neither a column of pictures nor picture files. "
        "Choose a data set for image classification."
    )


class DatasetReaderError(HubError):
    code = "dataset_reader"
    sentence = (
        "“{repo}” is kept as Parquet files, which need one more library on this machine. "
        "Install it with “pip install pyarrow” and start again, or download the pictures and upload them as a zip."
    )


class DatasetDamagedError(HubError):
    code = "dataset_damaged"
    sentence = "The file “{file}” of “{repo}” cannot be read. Tell its authors, and choose another data set."


class DatasetUnreachableError(HubError):
    code = "dataset_unreachable"
    sentence = (
        "The Hugging Face Hub cannot be reached. Check the internet connection and try again, "
        "or upload your pictures as a zip."
    )


class DatasetRefusedError(HubError):
    code = "dataset_refused"
    sentence = "The Hub did not give out the data set (status {status}). Wait a few minutes and try again."


class DatasetInterruptedError(HubError):
    code = "dataset_interrupted"
    sentence = (
        "Fetching “{repo}” broke off, because the connection was lost or memory ran out. "
        "Try again, or choose a smaller data set."
    )
