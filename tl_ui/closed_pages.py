"""Lets go of what Gradio remembers of pages that were closed.

Gradio keeps a copy of all that a page showed until so many pages (`state_session_capacity`) came after it: a quarter
of a megabyte each here, and what was shown on them; and what it had to tell a page that did not listen any more. What
matters lies in the browser and on the disk; a page that comes back after the time below, as after a lost connection,
begins with nothing opened.
"""

from datetime import datetime, timedelta

import gradio as gr

_KEPT = timedelta(minutes=10)  # since the page last did something


def forget_closed(page: gr.Blocks) -> int:
    """How many were let go of."""
    holder, now = page.state_holder, datetime.now()
    closed = [key for key, state in list(holder.session_data.items()) if state.is_closed]
    old = [key for key in closed if now - holder.time_last_used.get(key, now) > _KEPT]
    with holder.lock:
        for key in old:
            holder.session_data.pop(key, None)
            holder.time_last_used.pop(key, None)
    for untold in (page._queue.pending_messages_per_session, page._queue.pending_event_ids_session):
        for key in old:
            untold.pop(key, None)
    return len(old)
