"""Why something cannot be shared on the Hugging Face Hub, fetched from it or trained there; a branch of the tree in
`errors`."""

from tl_core.errors import HubError, TokenFormatError, fill_at_length


class NoTokenError(TokenFormatError):
    code = "no_token"
    sentence = (
        "An access token of Hugging Face is needed for this: make one with write access at "
        "huggingface.co/settings/tokens and paste it, or sign in where that is offered. The download works without."
    )


class ReadOnlyTokenError(HubError):
    code = "token_read_only"
    sentence = (
        "This token of “{user}” may only read. Make one with write access at huggingface.co/settings/tokens "
        "and paste that."
    )


class SignInExpiredError(HubError):
    code = "sign_in_expired"
    sentence = "Your sign-in with Hugging Face has expired. Sign in again, then repeat this; nothing was made public."


class LicenceConflictError(HubError):
    code = "licence_conflict"
    sentence = (
        "A model that started from {backbone} cannot be published under “{licence}”: its weights come under "
        "{weights}. Choose {allowed}, or train with another backbone."
    )


class RepoChangedError(HubError):
    code = "repo_changed"
    sentence = (
        "“{repo}” was changed by someone while this was sent. Nothing was written: look at it there, then try again."
    )


class HubBusyError(HubError):
    code = "hub_busy"
    sentence = (
        "The Hugging Face Hub is overloaded (status {status}) and stayed so while this was tried several times. What "
        "was sent is kept there: try again in a few minutes and it goes on from there. The download still works."
    )


class HubWaitError(HubError):
    code = "hub_wait"
    sentence = (
        "The Hugging Face Hub asks to be left alone for {minutes} minutes (status {status}). What was sent is kept "
        "there: try again after that and it goes on from there. The download still works."
    )


class NotTheHubError(HubError):
    code = "not_the_hub"
    sentence = (
        "Something else answered in place of the Hugging Face Hub, as the sign-in page of a wireless network does. "
        "Open any web page and sign in to the network there, then try again; the download still works."
    )


class SignInScopeError(HubError):
    code = "sign_in_scope"
    sentence = (
        "Your sign-in does not let this app write to “{repo}”. Sign out and in again and allow it to create "
        "repositories, for an organisation of yours too where it is theirs; or download the model and upload it "
        "yourself."
    )


class HubStorageError(HubError):
    code = "hub_storage"
    sentence = (
        "There is no room left for “{repo}” in your storage on the Hub. Make room or see its limits at "
        "huggingface.co/settings/billing, or make the model public; the download still works."
    )


class PublicAlreadyError(HubError):
    code = "public_already"
    sentence = (
        "“{repo}” exists and everybody can see it, so a private model cannot be put there. Choose another name, make "
        "it private in its settings on the Hub, or untick “private”."
    )


class ModelNotFoundError(HubError):
    code = "model_not_found"
    sentence = "There is no model “{repo}” on the Hub, or it is private. Check the spelling; for a private one sign in."


class GatedModelError(HubError):
    code = "model_gated"
    sentence = (
        "The owner of “{repo}” lets in only those who asked on its page at huggingface.co/{repo}. Ask there, then come "
        "back signed in or with a token of yours."
    )


class NotOurModelError(HubError):
    code = "not_our_model"
    sentence = (
        "“{repo}” was not made here: it has no bundle.json. Models pushed by Transfer Lab can be opened again; "
        "for others choose a backbone under Advanced."
    )


class SpaceRefusedError(HubError):
    code = "space_refused"
    sentence = (
        "The Hub did not make the Space “{repo}” on “{hardware}” (status {status}). Free accounts may have ZeroGPU "
        "Spaces only (zero-a10g), two of them; other hardware needs PRO or a payment method."
    )


class PrivateModelError(HubError):
    code = "private_model"
    sentence = (
        "“{repo}” is private, and a Space cannot read it without a token of yours. Make the model public in its "
        "settings first, or run the demo on your own machine."
    )


class NoOnnxError(HubError):
    code = "no_onnx"
    sentence = (
        "“{repo}” has no model.onnx, which is what a demo runs. Push the model again and let the ONNX file be made, "
        "then add the demo."
    )


class StorageNameError(HubError):
    code = "storage_name"
    sentence = (
        "“{name}” cannot be a bucket of the Hub. Write whose it is and its name, as in user/bucket; it is made where "
        "there is none."
    )


class NothingRunsItError(HubError):
    code = "nothing_runs_it"
    sentence = (
        "Neither timm nor transformers can load a model of this kind, and there is no ONNX file of it that answers the "
        "same, so nobody could use what is pushed. Make the ONNX file first, or share the download."
    )


class NotACheckoutError(HubError):
    code = "not_a_checkout"
    sentence = (
        "This is not a checkout of Transfer Lab with git, so it is not known which files to send. "
        "Clone the repository, then run this there."
    )


class UnknownFlavorError(HubError):
    code = "unknown_flavor"
    sentence = (
        "Hugging Face Jobs has no machine called “{name}”. Did you mean “{closest}”? "
        "The command “hf jobs hardware” lists them all with their prices."
    )


class JobsRefusedError(HubError):
    code = "jobs_refused"
    sentence = (
        "Hugging Face Jobs did not take the job (status {status}). Check that “{namespace}” has credits at "
        "huggingface.co/settings/billing and that the token may start jobs, then try again."
    )


class PublicRepoError(HubError):
    code = "public_repo"
    sentence = (
        "The dataset “{repo}” on the Hub is public, so your pictures were not sent there. "
        "Make it private in its settings, then try again."
    )


class JobLostError(HubError):
    code = "job_lost"
    sentence = (
        "The connection to the Hugging Face Hub was lost. The job goes on by itself and may cost money: see or cancel "
        "it at {url}. What it makes is kept in the folder “{folder}” of your dataset “{repo}”."
    )

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        fill_at_length(self, values)
