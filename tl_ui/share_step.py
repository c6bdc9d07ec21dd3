"""Part of step 4: the model to the Hugging Face Hub, with a sign-in or a pasted token that lives for one call."""

import os
from collections.abc import Iterator
from typing import Any

import gradio as gr

from tl_core.errors import HubError, RepoExistsError, RepoNameError, TLError
from tl_core.hub.checks import PushCheck, PushWish
from tl_core.hub.licences import FREE, allowed
from tl_core.hub.push import Pushed
from tl_core.hub_errors import LicenceConflictError, ModelNotFoundError, PublicAlreadyError
from tl_core.models.catalogue import find
from tl_ui import figures
from tl_ui.handlers import PRIVATE
from tl_ui.words import error_sentence, language_of, say
from tl_ui.workspace import Memory, Workspace

# A Space that visitors can sign in on; elsewhere Gradio's button would refuse to start or show the host's own name.
SIGN_IN = os.environ.get("SYSTEM") == "spaces" and bool(os.environ.get("OAUTH_CLIENT_ID"))
_SHARE: dict[str, Any] = {**PRIVATE, "concurrency_id": "share", "concurrency_limit": 4}
# With these nothing is wrong with the token: it may stay in its box.
_KEEPS_TOKEN = (RepoNameError, RepoExistsError, LicenceConflictError, PublicAlreadyError)
_Told = tuple[Any, Any, Any, Any, Any]


class ShareStep:
    """Draws the accordion and wires its buttons. The token's box is empty after any use of it."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        with gr.Accordion(t("share.title"), open=False, elem_id="share"):
            if SIGN_IN:
                gr.LoginButton()
            name = gr.Textbox(label=t("share.name"), info=t("share.name_info"), max_length=100, elem_id="share-name")
            token = gr.Textbox(
                label=t("share.token"),
                info=t("share.token_or_sign_in" if SIGN_IN else "share.token_info"),
                type="password",
                max_length=8_000 if SIGN_IN else 300,
                elem_id="share-token",
            )
            private = gr.Checkbox(label=t("share.private"), value=True, elem_id="share-private")
            with gr.Accordion(t("share.more"), open=False, elem_id="share-more"):
                self.licence = gr.Dropdown(
                    [(t(f"licence.{one}"), one) for one in FREE],
                    value=FREE[0],
                    label=t("share.licence"),
                    info=t("share.licence_info"),
                    elem_id="share-licence",
                )
                note = gr.Textbox(
                    label=t("share.data"), info=t("share.data_info"), max_length=500, lines=2, elem_id="share-data"
                )
                pictures = gr.Checkbox(label=t("share.examples"), value=False, elem_id="share-examples")
                replace = gr.Checkbox(label=t("share.replace"), value=False, elem_id="share-replace")
            button = gr.Button(t("share.push"), elem_id="share-push")
            done = gr.HTML(elem_id="share-done")
            pushed = gr.State("")  # where the last push of this page went
            with gr.Group(visible=False) as after:
                if not SIGN_IN:
                    gr.Markdown(t("share.demo_help"), elem_classes=["tl-quiet"])
                demo = gr.Button(t("share.demo"), elem_id="share-demo")
            demo_done = gr.HTML(elem_id="share-demo-done")
        inputs = [name, token, private, replace, self.licence, note, pictures, memory]
        button.click(self.upload, inputs, [done, token, button, after, pushed], **_SHARE)
        demo.click(self.add_demo, [pushed, token], [demo_done, token], **_SHARE)

    def choices(self, memory: Memory) -> Any:
        """The licences that the run's backbone leaves to choose from."""
        report = self._work.report(str(memory.get("run", "")))
        if report is None:
            return gr.update()
        known = allowed(find(report.backbone))
        return gr.update(value=known[0], choices=[(self._label(one), one) for one in known])

    def _label(self, licence: str) -> str:
        return next((str(label) for label, value in self.licence.choices if value == licence), licence)

    def upload(
        self,
        name: str,
        token: str,
        private: bool,
        replace: bool,
        licence: str,
        note: str,
        pictures: bool,
        memory: Memory,
        request: gr.Request,
        signed_in: gr.OAuthToken | None,
    ) -> Iterator[_Told]:
        """Check, make ready and push the run's model; gives what to show, what the token's box should hold, whether
        the buttons make sense, and where the model is."""
        language, key = language_of(request), str(memory.get("run", ""))
        hidden, busy, idle = gr.update(visible=False), gr.update(interactive=False), gr.update(interactive=True)
        if not isinstance(name, str) or not name.strip():
            yield figures.message("bad", say(language, "share.need_name")), gr.skip(), gr.update(), hidden, ""
            return
        # Only a real tick counts: a client that sends something else must not make a model public or replace one.
        wish = PushWish(name.strip(), private is not False, replace is True, str(licence), str(note)[:500], language)
        try:
            steps = self._work.publish(key, wish, examples=pictures is True, token=_usable(token, signed_in))
            checked = ""
            for step in steps:
                if isinstance(step, PushCheck):
                    checked = _checklist(step, language)
                    yield checked, gr.skip(), busy, hidden, ""
                elif isinstance(step, Pushed):
                    told = _done(step, language, loadable=self._work.loadable(key))
                    yield told, "", idle, gr.update(visible=not wish.private), step.repo_id
                else:
                    label = say(language, f"stage.{step.stage}")
                    bar = figures.progress_bar(step.done / max(1, step.total), label, label)
                    yield checked + bar, gr.skip(), busy, hidden, ""
        except TLError as error:
            kept = gr.skip() if isinstance(error, _KEEPS_TOKEN) or not isinstance(error, HubError) else ""
            told = figures.message("bad", error_sentence(language, error))
            yield told, kept, idle, hidden, ""

    def add_demo(
        self, pushed: str, token: str, request: gr.Request, signed_in: gr.OAuthToken | None
    ) -> tuple[Any, Any]:
        """A Space that asks the model that was pushed."""
        language = language_of(request)
        try:
            url = self._work.add_demo(pushed, token=_usable(token, signed_in))
        except TLError as error:
            kept = gr.skip() if isinstance(error, ModelNotFoundError) else ""
            return figures.message("bad", error_sentence(language, error)), kept
        return figures.linked_message("good", say(language, "share.demo_done", link="\0"), figures.link(url, url)), ""


def _usable(typed: str, signed_in: gr.OAuthToken | None) -> str:
    """The token to use: what was typed, or else the sign-in's, where there is one to be had."""
    if str(typed).strip() or not SIGN_IN or signed_in is None:
        return str(typed)
    return signed_in.token


def _checklist(found: PushCheck, language: str) -> str:
    """What was found in order before anything was sent."""
    key = "share.check_replace" if found.parent else "share.check_free"
    lines = [say(language, "share.check_user", user=found.user), say(language, key, repo=found.repo_id)]
    return figures.checklist([*lines, say(language, "share.check_licence")])


def _done(pushed: Pushed, language: str, *, loadable: bool) -> str:
    """Where the model is now, and how others load it: with timm and transformers where those know such a network."""
    link = figures.link(pushed.url, pushed.repo_id)
    told = figures.linked_message("good", say(language, "share.done", link="\0"), link)
    if not loadable:
        lines = (
            f"hf download {pushed.repo_id} --local-dir model",
            "pip install -r model/requirements.txt",
            "python model/predict.py photo.jpg",
        )
        return told + figures.code(say(language, "share.load_script"), ["\n".join(lines)])
    timm = f'import timm\nmodel = timm.create_model("hf-hub:{pushed.repo_id}", pretrained=True)'
    pipeline = (
        f'from transformers import pipeline\npipeline("image-classification", model="{pushed.repo_id}")("photo.jpg")'
    )
    return told + figures.code(say(language, "share.load"), [timm, pipeline])
