"""Part of step 4: the model to the Hugging Face Hub with a pasted token that lives for one call."""

from html import escape as esc
from typing import Any

import gradio as gr

from tl_core.errors import HubError, RepoExistsError, RepoNameError
from tl_core.hub import push
from tl_ui import figures
from tl_ui.handlers import PRIVATE, speaks
from tl_ui.words import error_sentence, language_of, say
from tl_ui.workspace import Memory, Workspace


class ShareStep:
    """Draws the accordion and wires its button. The token's box is empty after any use of it."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        with gr.Accordion(t("share.title"), open=False, elem_id="share"):
            name = gr.Textbox(label=t("share.name"), info=t("share.name_info"), max_length=100, elem_id="share-name")
            token = gr.Textbox(
                label=t("share.token"),
                info=t("share.token_info"),
                type="password",
                max_length=300,
                elem_id="share-token",
            )
            private = gr.Checkbox(label=t("share.private"), value=True, elem_id="share-private")
            replace = gr.Checkbox(label=t("share.replace"), value=False, elem_id="share-replace")
            button = gr.Button(t("share.push"), elem_id="share-push")
            done = gr.HTML(elem_id="share-done")
        inputs = [name, token, private, replace, memory]
        how = {**PRIVATE, "show_progress": "minimal", "concurrency_limit": 4}
        button.click(self.upload, inputs, [done, token], **how)

    @speaks
    def upload(
        self, name: str, token: str, private: bool, replace: bool, memory: Memory, request: gr.Request
    ) -> tuple[Any, Any]:
        """Push the run's bundle; gives where it is now or what was wrong, and what the token's box should hold."""
        language, report = language_of(request), self._work.report(str(memory.get("run", "")))
        if report is None:
            return figures.message("bad", say(language, "use.not_yet")), gr.skip()
        if not str(name).strip():
            return figures.message("bad", say(language, "share.need_name")), gr.skip()
        # Only a real tick counts: a client that sends something else must not make a model public or replace one.
        hidden, over = private is not False, replace is True
        try:
            pushed = push(report.bundle, str(name), token=str(token), private=hidden, replace=over)
        except (RepoNameError, RepoExistsError) as error:  # nothing is wrong with the token: it may stay in its box
            return figures.message("bad", error_sentence(language, error)), gr.skip()
        except HubError as error:
            return figures.message("bad", error_sentence(language, error)), ""
        link = f'<a href="{esc(pushed.url)}" target="_blank" rel="noopener">{esc(pushed.repo_id)}</a>'
        return figures.linked_message("good", say(language, "share.done", link="\0"), link), ""
