"""Which runs and sets a browser remembers beside those it shows: their keys, the newest last. Pure but for looking
whether they are still there; what comes from a browser is never believed.
"""

from tl_core.jobs.runs import RunFolder, hashed, new_key
from tl_ui.sets import SET
from tl_ui.workspace import Memory, Workspace

# "run" and "set" are those that are shown, "base" is the run of a model that training may go on from,
# "before" the run that the shown one is compared with.
# "owner" is the key to all of them together: by its hash, sets and runs are known as one person's.
EMPTY: Memory = {
    "owner": "",
    "set": "",
    "run": "",
    "collected": "",
    "base": "",
    "before": "",
    "step": 1,
    "runs": [],
    "sets": [],
}
MOST = 20


def owner_of(memory: Memory) -> str:
    """What is kept of the browser's own key; "" where it has none."""
    return hashed(memory.get("owner")) or ""


def keys(memory: Memory, name: str) -> list[str]:
    """The keys of the "runs" or "sets" that the memory names, the newest last."""
    found = memory.get(name)
    return [key for key in found if isinstance(key, str)][-MOST:] if isinstance(found, list) else []


def with_run(memory: Memory, key: str) -> Memory:
    """`memory` with the run behind `key` as the newest and the one that is shown, and its set remembered with it."""
    sets = _newest([*keys(memory, "sets"), str(memory.get("set", ""))])
    return {**memory, "run": key, "before": "", "runs": _newest([*keys(memory, "runs"), key]), "sets": sets}


def restored(work: Workspace, memory: Memory) -> Memory:
    """A memory as it comes from a browser, with everything a page expects and without what is gone."""
    runs, sets = keys(memory, "runs"), keys(memory, "sets")
    run = memory.get("run")
    if isinstance(run, str) and run not in runs:  # of the time before runs were remembered
        runs.append(run)
    there = [key for key in runs if work.run(key) is not None]
    kept = [key for key in sets if work.sets.find(key) is not None]
    owner = memory["owner"] if owner_of(memory) else new_key()
    return {**EMPTY, **memory, "owner": owner, "runs": _newest(there), "sets": _newest(kept)}


def afresh(memory: Memory) -> Memory:
    """To begin with other pictures: nothing is shown any more, and what was made is still remembered."""
    return EMPTY | {"owner": memory.get("owner", "")} | {name: keys(memory, name) for name in ("runs", "sets")}


def opened(work: Workspace, memory: Memory, key: str) -> Memory:
    """`memory` with the run behind `key` shown, and with the set that it was made from where the browser has its key;
    no other set is shown then, so that nothing is changed that the run knows nothing of."""
    run = work.run(key)
    if run is None:
        return memory
    sets = _newest([*keys(memory, "sets"), str(memory.get("set", ""))])
    mine = folder_of_set(run)
    made_from = [one for one in sets if (folder := work.sets.find(one)) is not None and str(folder / SET) == mine]
    shown = made_from[-1] if made_from else "" if mine else memory.get("set", "")
    return {**memory, "run": key, "before": "", "set": shown, "sets": sets}


def without_run(work: Workspace, memory: Memory, key: str) -> Memory:
    """`memory` without that run; where it was the one that is shown, the newest with a result is instead."""
    left = [one for one in keys(memory, "runs") if one != key]
    found = {**memory, "runs": left, "base": "" if memory.get("base") == key else memory.get("base", "")}
    if memory.get("run") != key:
        return found
    ready = [one for one in left if work.report(one) is not None]
    return opened(work, found, ready[-1]) if ready else {**found, "run": ""}


def folder_of_set(run: RunFolder) -> str:
    """The folder of the set that `run` was made from; "" where nobody knows, as of a model that was opened."""
    try:
        return run.request().set_folder
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _newest(found: list[str]) -> list[str]:
    """The last of them, each once."""
    last = dict.fromkeys(reversed([key for key in found if key]))
    return list(reversed(last))[-MOST:]
