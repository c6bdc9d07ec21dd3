"""Part of step 4: the model to the Hugging Face Hub with a pasted token that lives for one call."""

from html import escape as esc

import gradio as gr

from tl_core.hub import push
from tl_ui.data_step import Memory
from tl_ui.handlers import speaks
from tl_ui.words import language_of, say
from tl_ui.workspace import Workspace


def share_step(work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
    """Draw the accordion and wire its button."""
    with gr.Accordion(t("share.title"), open=False, elem_id="share"):
        name = gr.Textbox(label=t("share.name"), info=t("share.name_info"), max_length=100, elem_id="share-name")
        token = gr.Textbox(
            label=t("share.token"), info=t("share.token_info"), type="password", max_length=300, elem_id="share-token"
        )
        private = gr.Checkbox(label=t("share.private"), value=True, elem_id="share-private")
        replace = gr.Checkbox(label=t("share.replace"), value=False, elem_id="share-replace")
        button = gr.Button(t("share.push"), elem_id="share-push")
        done = gr.HTML(elem_id="share-done")

    @speaks
    def upload(
        name: str, token: str, private: bool, replace: bool, memory: Memory, request: gr.Request
    ) -> tuple[str, str]:
        report = work.report(str(memory.get("run", "")))
        if report is None:
            raise gr.Error(say(language_of(request), "use.not_yet"), print_exception=False)
        pushed = push(report.bundle, str(name), token=str(token), private=private is not False, replace=replace is True)
        link = f'<a href="{esc(pushed.url)}" target="_blank" rel="noopener">{esc(pushed.repo_id)}</a>'
        return (
            f'<div class="tl-message tl-good" role="status">{say(language_of(request), "share.done", link=link)}</div>',
            "",
        )

    button.click(
        upload,
        [name, token, private, replace, memory],
        [done, token],
        api_visibility="private",
        show_progress="minimal",
        concurrency_limit=4,
    ).failure(lambda: "", None, token, api_visibility="private", show_progress="hidden")
