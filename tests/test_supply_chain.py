"""What we build on and what we never write: the lock, what is allowed of its known holes, and rules over the source."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tl_core.settings import Settings
from tools import audit
from tools.audit import ALLOWED, MOST_DAYS, Hole, NobodyAskedError, holes, is_allowed

ROOT = Path(__file__).parents[1]
OURS = [ROOT / "app.py", *(path for folder in ("tl_core", "tl_ui") for path in sorted((ROOT / folder).rglob("*.py")))]
TODAY = date.today()


# the lock


def locked() -> dict[str, tuple[Requirement, int]]:
    """What the lock pins, by name, and how many hashes each has."""
    found = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / "requirements-lock.txt").read_text(encoding="utf-8")):
        if not entry.startswith("#"):
            pinned = Requirement(entry.split(" \\")[0])
            found[canonicalize_name(pinned.name)] = (pinned, len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)))
    return found


def wanted() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def version(pinned: Requirement) -> str:
    (only,) = pinned.specifier
    assert only.operator == "==", f"{pinned} is not pinned to one version"
    return only.version


def test_case_136_the_lock_covers_what_is_required_and_every_entry_has_a_hash() -> None:
    pins = locked()
    assert len(pins) > 50
    for name, (pinned, hashes) in pins.items():
        assert version(pinned) and hashes, name
    for one in wanted():
        assert canonicalize_name(one.name) in pins, f"{one}: run `python -m tools.audit --lock`"
        assert one.specifier.contains(version(pins[canonicalize_name(one.name)][0])), one


def test_case_136_the_lock_holds_all_that_its_packages_need_here() -> None:
    """By what the installed packages say of themselves: with hashes demanded, one that is missing stops the install."""
    pins, seen = locked(), set[tuple[str, str]]()
    extras = {canonicalize_name(one.name): {"", *one.extras} for one in wanted()}
    ahead = [(name, extra) for name in pins for extra in extras.get(name, {""})]
    while ahead:
        name, extra = ahead.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another system or another Python
            assert pins[name][0].marker is not None, name
            continue
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                assert canonicalize_name(need.name) in pins, f"{name} needs {need}"
                ahead += [(canonicalize_name(need.name), more) for more in ("", *need.extras)]


def told(name: str = "pillow", ids: tuple[str, ...] = (), **more: object) -> str:
    vulns = [{"id": id, "aliases": [], "fix_versions": ["13.0.0"], "description": ""} for id in ids]
    return json.dumps({"dependencies": [{"name": name, "version": "12.3.0", "vulns": vulns, **more}], "fixes": []})


def test_case_136_every_allowed_hole_has_a_reason_that_was_looked_at_lately() -> None:
    pins = locked()
    for one in ALLOWED:
        assert one.names and len(one.reason.split()) >= 10, one
        assert timedelta(0) <= TODAY - one.seen <= timedelta(days=MOST_DAYS), f"{one.names}: look at the reason again"
        assert one.package in pins, f"{one.names}: {one.package} is not used any more"
    assert MOST_DAYS == 180 and all(one.package == "pillow" for one in ALLOWED)
    # The reasons hold as long as this does.
    assert not next(one for one in wanted() if one.name == "pillow").specifier.contains("13.0.0")


def test_case_136_a_known_hole_fails_unless_it_is_allowed_and_the_reason_is_fresh(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = ALLOWED[0]
    (hole,) = holes(told(ids=listed.names[:1]))
    assert hole == Hole("pillow", "12.3.0", listed.names[:1], ("13.0.0",)) and is_allowed(hole, listed.seen)
    assert not is_allowed(hole, listed.seen + timedelta(days=MOST_DAYS + 1))
    assert not is_allowed(replace(hole, package="torch"), listed.seen)
    for ids, status in ((("CVE-2099-1",), 1), (listed.names[:1], 0), ((), 0)):
        monkeypatch.setattr(audit, "ask", lambda lock, ids=ids: told(ids=ids))
        assert audit.audit() == status
        assert ("CVE-2099-1; mended in 13.0.0" in capsys.readouterr().out) == bool(status)


@pytest.mark.parametrize("answer", ["", "<html>", "[]", '{"dependencies": []}', told(skip_reason="not found on PyPI")])
def test_case_136_no_answer_is_not_taken_for_a_good_one(answer: str) -> None:
    with pytest.raises(NobodyAskedError):
        holes(answer)


def test_case_136_without_a_network_it_says_that_nobody_was_asked() -> None:
    command = [sys.executable, "-m", "tools.audit"]  # the fixture of all tests leads proxies nowhere
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Could not ask OSV" in done.stderr and done.stdout == ""


def test_case_136_actions_of_others_are_named_by_their_commit() -> None:
    for file in (ROOT / ".github").rglob("*.y*ml"):  # there are none today
        for action in re.findall(r"uses:\s*([^\s#]+)", file.read_text(encoding="utf-8")):
            assert action.startswith("./") or re.search(r"@[0-9a-f]{40}$", action), f"{file.name}: {action}"


# limits and the documents that tell them


def test_case_137_the_security_page_says_the_limits_that_hold() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    headings = " ".join(re.findall(r"^#+ (.*)$", text, re.MULTILINE)).lower()
    for topic in ("report", "promise", "limit", "trusted", "not covered"):
        assert topic in headings, f"no heading about “{topic}”"
    assert "90 days" in text
    said, defaults = re.findall(r"^\| `(TL_[A-Z_]+)` \| (\d+) \|", text, re.MULTILINE), Settings()
    assert len(said) == len(set(said)) == text.count("| `TL_") >= 15
    for variable, number in said:
        assert int(number) == getattr(defaults, variable.removeprefix("TL_").lower()), f"{variable} in settings.py"
    hours, minutes = re.search(r"(\d+) hours after their last change", text), "two hours after it came"
    assert hours and int(hours[1]) == defaults.keep_hours and minutes in text and defaults.upload_minutes == 120


# rules over the source


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """`a.b.c` as it was imported; "?.c" where `a` is no plain name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def imported(tree: ast.AST) -> dict[str, str]:
    """What each name of a file stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.asname: one.name for one in node.names if one.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return names


def given(call: ast.Call, name: str) -> ast.expr | None:
    return next((one.value for one in call.keywords if one.arg == name), None)


def is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def is_ours(value: ast.expr) -> bool:
    """Whether a text can only be words of ours, or is made plain: `say`, `t`, `everywhere`, a constant,
    put together of those, or what may name a file or a class, passed through `as_text` or `markdown_text`."""
    if isinstance(value, ast.Call):
        return dotted(value.func, {}).split(".")[-1] in ("say", "t", "everywhere", "as_text", "markdown_text")
    if isinstance(value, ast.JoinedStr):
        return all(is_ours(one.value) for one in value.values if isinstance(one, ast.FormattedValue))
    return isinstance(value, ast.Constant)


RUNS_CODE = re.compile(
    r"(builtins\.)?(eval|exec|compile|__import__)|os\.(system|popen|exec[a-z]+|spawn[a-z]+)|pty\.spawn"
    r"|(c?pickle|dill|cloudpickle|joblib|marshal|shelve|torch|pandas)\.(load|loads|open|Unpickler|read_pickle)"
    r"|yaml\.(load|load_all|full_load|unsafe_load)|(torch\.)?jit\.load|torch\.package\.\w+|torch\.hub\.load"
)
FETCHES = re.compile(
    r"(requests|httpx)\.(get|post|put|head|request|stream|Client|AsyncClient)|(urllib\.request\.)?urlopen"
)
STARTS = re.compile(r"subprocess\.(Popen|run|call|check_call|check_output)")
HUB = re.compile(r"huggingface_hub\.(HfApi|hf_hub_download|snapshot_download|HfFileSystem|upload_\w+|create_\w+)")


def rule_code(call: ast.Call, name: str) -> bool:
    return bool(RUNS_CODE.fullmatch(name)) or is_true(given(call, "trust_remote_code"))


def rule_unpacks(call: ast.Call, name: str) -> bool:
    return name.endswith((".extractall", ".unpack_archive"))


def rule_shell(call: ast.Call, name: str) -> bool:
    value = given(call, "shell")
    return value is not None and not (isinstance(value, ast.Constant) and value.value is False)


def rule_pickled_arrays(call: ast.Call, name: str) -> bool:
    value = given(call, "allow_pickle")
    return name == "numpy.load" and not (isinstance(value, ast.Constant) and value.value is False)


def rule_temporary_names(call: ast.Call, name: str) -> bool:
    return name in ("tempfile.mktemp", "os.tempnam", "os.tmpnam")


def rule_unchecked_certificates(call: ast.Call, name: str) -> bool:
    value = given(call, "verify")
    return name == "ssl._create_unverified_context" or (isinstance(value, ast.Constant) and value.value is False)


def rule_waits_for_ever(call: ast.Call, name: str) -> bool:
    value = given(call, "timeout")
    return bool(FETCHES.fullmatch(name)) and (
        value is None or (isinstance(value, ast.Constant) and value.value is None)
    )


def rule_inherits_secrets(call: ast.Call, name: str) -> bool:
    return bool(STARTS.fullmatch(name)) and given(call, "env") is None


def rule_token_of_the_host(call: ast.Call, name: str) -> bool:
    value = given(call, "token")
    if isinstance(value, ast.Constant):
        return value.value is None or value.value == "" or value.value is True
    return value is None and bool(HUB.fullmatch(name))


def rule_text_as_markup(call: ast.Call, name: str) -> bool:
    """What Gradio draws as Markdown or HTML: at most words of ours. Pages made by `figures` and the like come as values
    of events and are tested with hostile names."""
    if name not in (
        "gradio.HTML",
        "gradio.Markdown",
        "gradio.Info",
        "gradio.Warning",
        "gradio.Error",
        "gradio.Chatbot",
    ):
        return False
    value = call.args[0] if call.args else given(call, "value") or given(call, "message")
    return value is not None and not is_ours(value)


RULES: list[Callable[[ast.Call, str], bool]] = [
    rule_code,
    rule_unpacks,
    rule_shell,
    rule_pickled_arrays,
    rule_temporary_names,
    rule_unchecked_certificates,
    rule_waits_for_ever,
    rule_inherits_secrets,
    rule_token_of_the_host,
    rule_text_as_markup,
]


def broken(source: str) -> Iterator[tuple[str, int]]:
    """Which rules a file breaks, and in which lines."""
    tree = ast.parse(source)
    names = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = dotted(node.func, names)
            yield from ((rule.__name__, node.lineno) for rule in RULES if rule(node, name))


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (rule_code, "eval(x)"),
        (rule_code, "import torch as t\nt.load(f)"),
        (rule_code, "from pickle import loads\nloads(x)"),
        (rule_code, "import yaml\nyaml.load(x)"),
        (rule_code, "AutoModel.from_pretrained(x, trust_remote_code=True)"),
        (rule_unpacks, "zipfile.ZipFile(f).extractall(d)"),
        (rule_unpacks, "import shutil\nshutil.unpack_archive(f)"),
        (rule_shell, "run(x, shell=True)"),
        (rule_pickled_arrays, "import numpy as np\nnp.load(f)"),
        (rule_pickled_arrays, "import numpy as np\nnp.load(f, allow_pickle=True)"),
        (rule_temporary_names, "import tempfile\ntempfile.mktemp()"),
        (rule_unchecked_certificates, "get(u, verify=False)"),
        (rule_waits_for_ever, "import requests\nrequests.get(u)"),
        (rule_waits_for_ever, "from urllib.request import urlopen\nurlopen(u)"),
        (rule_inherits_secrets, "from subprocess import run\nrun(c)"),
        (rule_token_of_the_host, "f(token=None)"),
        (rule_token_of_the_host, "from huggingface_hub import HfApi\nHfApi()"),
        (rule_text_as_markup, "import gradio as gr\ngr.Markdown(name)"),
        (rule_text_as_markup, "import gradio as gr\ngr.Error(f'no {name}')"),
        (rule_text_as_markup, "import gradio as gr\ngr.HTML(value='<b>' + name)"),
        (rule_text_as_markup, "import gradio as gr\ngr.Error(error_sentence(language, error))"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_case_138_the_rules_find_what_they_are_for(rule: Callable[..., bool], source: str) -> None:
    assert rule.__name__ in {name for name, _ in broken(source)}


# Where a rule is broken on purpose: file, rule, and why.
KNOWN = {
    ("tl_core/hub/spaces.py", "rule_inherits_secrets"): "git, which lists the files of this very project",
    ("tl_core/jobs/remote.py", "rule_token_of_the_host"): "runs on the visitor's rented machine, with their token",
    ("tl_ui/api.py", "rule_text_as_markup"): "told to programs; no page draws it",
    ("tl_ui/parts/forms.py", "rule_text_as_markup"): "the one place for pages of ours, whose makers escape",
}


def test_case_138_no_line_of_ours_breaks_a_rule() -> None:
    found = {
        (str(path.relative_to(ROOT)), rule): line
        for path in OURS
        for rule, line in broken(path.read_text(encoding="utf-8"))
    }
    assert len(OURS) > 100
    assert {at: line for at, line in found.items() if at not in KNOWN} == {}
    assert set(KNOWN) <= set(found), "a reason without its line: take it off the list"


def test_case_138_environments_of_children_are_scrubbed_ones() -> None:
    """`env=` alone says nothing: what is given must come from `scrubbed_environment`, or be a parameter that does."""
    for path in OURS:
        text = path.read_text(encoding="utf-8")
        if re.search(r"\bsubprocess\.(Popen|run)\(", text) and path.name not in ("spaces.py", "child.py"):
            assert "scrubbed_environment(" in text, path.name
    callers = [path for path in OURS if "child_lines(" in path.read_text(encoding="utf-8") and path.name != "child.py"]
    assert len(callers) >= 2
    for path in callers:
        assert "scrubbed_environment(" in path.read_text(encoding="utf-8"), path.name
