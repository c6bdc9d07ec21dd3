"""What Gradio remembers of a page goes some time after the page, and not before."""

import time
from asyncio import Queue as AsyncQueue
from datetime import timedelta

import gradio as gr
import httpx

from tl_ui.closed_pages import forget_closed


def test_only_what_was_closed_some_time_ago_is_let_go_of() -> None:
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Textbox()
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
    try:
        holder, beating = page.state_holder, f"{url}gradio_api/heartbeat"
        pages = [holder[name] for name in ("leaves", "stays")]
        with httpx.stream("GET", f"{beating}/stays", timeout=60) as stays:
            beats = stays.iter_text()  # closes the connection when it is let go of
            assert next(beats)
            with httpx.stream("GET", f"{beating}/leaves", timeout=60) as leaves:
                assert next(leaves.iter_text())
            until = time.monotonic() + 30
            while not pages[0].is_closed:
                assert time.monotonic() < until, "Gradio says which pages are closed"
                time.sleep(0.1)
            untold = page._queue.pending_messages_per_session
            untold.update({name: AsyncQueue() for name in ("leaves", "stays")})
            assert forget_closed(page) == 0, "it may come back"
            for name in holder.time_last_used:
                holder.time_last_used[name] -= timedelta(minutes=11)
            assert forget_closed(page) == 1
            assert set(holder.session_data) == set(holder.time_last_used) == set(untold) == {"stays"}
            assert forget_closed(page) == 0
    finally:
        page.close(verbose=False)
