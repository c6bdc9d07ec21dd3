"""The named endpoints by the clients people use: gradio_client, plain HTTP and MCP, against the real app."""

import ast
import asyncio
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Coroutine
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.browser import ROOT, App, running
from tests.conftest import picture
from tl_core.bundle.bundle import load
from tl_core.bundle.files import from_zip
from tl_core.settings import Settings
from tl_ui import api
from tl_ui.api import Api
from tl_ui.workspace import Workspace

NAMES = {"inspect", "train", "status", "predict", "bundle"}
DOCUMENT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
NOBODYS = "A" * 22  # a key of the right form
GONE = "no longer kept"
# Who calls, as far as an endpoint asks.
CALLER: Any = SimpleNamespace(client=SimpleNamespace(host="127.0.0.1"))


def examples(language: str, app: App) -> list[str]:
    """The document's examples in one language, in order, about `app`."""
    found = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    return [example.replace("http://127.0.0.1:7860/", app.url) for example in found]


def lay_out(folder: Path) -> Path:
    """The files that the document's examples name, in `folder`."""
    (folder / "photo.jpg").write_bytes(picture(77, shape="star"))
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        archive.writestr("notes/readme.txt", b"no picture")
        for shape in ("star", "circle"):
            for number in range(12):
                archive.writestr(f"{shape}s/{number:03}.jpg", picture(number, shape=shape))
    return folder


@pytest.fixture(scope="module")
def client(app: App) -> Client:
    return Client(app.url, verbose=False)


@pytest.fixture(scope="module")
def session(app: App, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the document's session in Python leaves: its names and their values."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(lay_out(tmp_path_factory.mktemp("session")))
        for example in examples("python", app):
            exec(example, names)
    return names


def test_the_documents_session_in_python_does_the_whole_job(session: dict[str, Any], tmp_path: Path) -> None:
    seen, end, model = session["seen"], session["status"], session["model"]
    assert seen["classes"] == {"circles": 12, "stars": 12} and len(seen["set_key"]) == 22
    assert seen["looked_closely"] and [file["name"] for file in seen["skipped"]] == ["notes/readme.txt"]
    assert end["state"] == "finished" and 0 <= end["interval"][0] <= end["accuracy"] <= end["interval"][1] <= 1
    assert set(session["answers"][0]["ranking"]) == {"circles", "stars"} == set(end["classes"])
    path = model if isinstance(model, str) else model["path"]
    assert load(from_zip(Path(path), tmp_path / "model"))[1].class_names == ("circles", "stars")


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_the_documents_session_in_a_shell_does_the_whole_job(app: App, tmp_path: Path) -> None:
    script = "\n".join(examples("sh", app))
    done = subprocess.run(
        ["sh", "-eu"], input=script, cwd=lay_out(tmp_path), capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert json.loads((tmp_path / "status.json").read_text())[0]["state"] == "finished"
    assert done.stdout.strip() in ("circles", "stars")
    assert load(from_zip(tmp_path / "model.zip", tmp_path / "model"))[1].class_names == ("circles", "stars")


def test_the_document_names_every_endpoint_and_its_parameters() -> None:
    for name in NAMES:
        section = DOCUMENT.split(f"\n## {name}\n")[1].split("\n## ")[0]
        parameters = [p for p in signature(getattr(Api, name)).parameters if p not in ("self", "request")]
        assert all(f"`{parameter}`" in section for parameter in parameters), name


# agents


def with_agent(app: App, does: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """What `does` finds by an MCP client that is set up as the document says."""
    mcp = pytest.importorskip("mcp", reason="gradio[mcp] is not installed")
    from mcp.client.streamable_http import streamablehttp_client

    (config,) = examples("json", app)
    url = json.loads(config)["mcpServers"]["transfer-lab"]["url"]

    async def connected() -> Any:
        async with streamablehttp_client(url) as (read, write, _), mcp.ClientSession(read, write) as agent:
            await agent.initialize()
            return await does(agent)

    return asyncio.run(connected())


def test_an_agent_finds_five_documented_tools(app: App) -> None:
    tools = {tool.name: tool for tool in with_agent(app, lambda agent: agent.list_tools()).tools}
    assert set(tools) == NAMES
    for name, tool in tools.items():
        parameters = [p for p in signature(getattr(Api, name)).parameters if p not in ("self", "request")]
        described = tool.inputSchema["properties"]
        assert list(described) == parameters and "Returns" in tool.description
        assert all(len(described[one]["description"]) > 10 for one in parameters)
    assert tools["train"].inputSchema["required"] == ["set_key"]


def test_an_agent_predicts_and_inspects_what_it_has_uploaded(app: App, session: dict[str, Any], tmp_path: Path) -> None:
    lay_out(tmp_path)
    (tmp_path / "no.zip").write_bytes(b"PK\3\4 but no zip")
    photo, damaged = uploaded(app, tmp_path / "photo.jpg"), uploaded(app, tmp_path / "no.zip")
    address = f"{app.url}gradio_api/file={photo}"

    async def does(agent: Any) -> tuple[Any, Any]:
        asked = {"run_key": session["run_key"], "pictures": [photo, address, damaged]}
        return await agent.call_tool("predict", asked), await agent.call_tool("inspect", {"upload": damaged})

    predicted, inspected = with_agent(app, does)
    first, second, third = ast.literal_eval(predicted.content[0].text)
    assert first["label"] == second["label"] in ("circles", "stars") and "problem" in third
    assert inspected.isError and "zip" in inspected.content[0].text and "Traceback" not in inspected.content[0].text


@pytest.mark.parametrize("mark", [{}, {"meta": {"_type": "gradio.FileData"}}])
def test_case_69_an_agent_cannot_name_a_file_of_the_server(
    app: App, session: dict[str, Any], tmp_path: Path, mark: dict[str, Any]
) -> None:
    """With the mark, Gradio's own client behind the tools would upload it for the caller."""
    lay_out(tmp_path)
    zipped, photo = str(tmp_path / "pictures.zip"), str(tmp_path / "photo.jpg")

    async def does(agent: Any) -> list[Any]:
        run = session["run_key"]
        return [
            await agent.call_tool("inspect", {"upload": zipped}),
            await agent.call_tool("inspect", {"upload": {"path": zipped, **mark}}),
            await agent.call_tool("predict", {"run_key": run, "pictures": [photo]}),
            await agent.call_tool("predict", {"run_key": run, "pictures": [{"path": photo, **mark}]}),
            await agent.call_tool("predict", {"run_key": {"path": photo, **mark}, "pictures": []}),
            await agent.call_tool("status", {"run_key": run, "more": {"path": photo, **mark}}),
        ]

    before = set((app.data / "web").rglob("*"))
    assert all(answer.isError for answer in with_agent(app, does))
    assert set((app.data / "web").rglob("*")) == before, "something of the server was uploaded"


def test_the_client_behind_the_tools_could_not_upload_if_it_tried(app: App, tmp_path: Path) -> None:
    behind = Client(app.url, verbose=False, headers={"x-gradio-user": "mcp"})
    with pytest.raises(Exception, match="403"):
        behind.predict(handle_file(str(lay_out(tmp_path) / "pictures.zip")), api_name="/inspect")


# what is refused


def called(app: App, name: str, arguments: object) -> tuple[str, Any]:
    """One call by plain HTTP: the last event and its data."""
    asked = urllib.request.Request(
        f"{app.url}gradio_api/call/{name}",
        data=json.dumps({"data": arguments}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        number = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{app.url}gradio_api/call/{name}/{number}", timeout=60) as stream:
        text = stream.read().decode()
    event, data = text.strip().split("\n\n")[-1].split("\n", 1)
    return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def uploaded(app: App, file: Path) -> str:
    """Where the app put `file`, uploaded as a form."""
    form = (
        b'--form\r\ncontent-disposition: form-data; name="files"; filename="'
        + file.name.encode()
        + b'"\r\ncontent-type: application/octet-stream\r\n\r\n'
        + file.read_bytes()
        + b"\r\n--form--\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=form"}
    asked = urllib.request.Request(f"{app.url}gradio_api/upload", data=form, headers=headers)
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return str(json.load(answer)[0])


@pytest.mark.parametrize(
    ("name", "more"), [("status", [0]), ("train", ["quick", ""]), ("predict", [["x"]]), ("bundle", ["onnx"])]
)
def test_case_90_what_is_not_yours_and_what_is_not_there_are_refused_alike(
    app: App, session: dict[str, Any], name: str, more: list[Any]
) -> None:
    other = session["run_key"] if name == "train" else session["seen"]["set_key"]  # a key, but not to that
    answers = [called(app, name, [key, *more]) for key in (NOBODYS, other, "../../runs", "", None, ["x"], 5)]
    assert all(event == "error" and GONE in data["error"] for event, data in answers), answers


@pytest.mark.parametrize("given", ["/etc/passwd", {"path": "/etc/passwd"}, {"path": ["x"]}, None, 5, "http://[", "x\0"])
def test_case_69_a_path_of_the_server_is_no_upload(app: App, session: dict[str, Any], given: Any) -> None:
    for name, arguments in (("inspect", [given]), ("predict", [session["run_key"], [given]])):
        event, data = called(app, name, arguments)
        assert event == "error" and "uploaded to" in data["error"], data
    marked = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}  # Gradio refuses it before us
    assert called(app, "inspect", [marked])[0] == "error"


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("status", ["RUN", float("nan")], "wait_seconds"),
        ("status", ["RUN", -1], "wait_seconds"),
        ("status", ["RUN", "soon"], "wait_seconds"),
        ("status", ["RUN", True], "wait_seconds"),
        ("train", ["SET", "x" * 1_000_000, ""], "quick, balanced, best"),
        ("train", ["SET", ["quick"], ""], "quick, balanced, best"),
        ("train", ["SET", "quick", "horoscopes"], "folders"),
        ("train", ["SET", "quick", {"a": 1}], "folders"),
        ("predict", ["RUN", []], "1 to 500"),
        ("predict", ["RUN", ["x"] * 501], "1 to 500"),
        ("predict", ["RUN", "x"], "1 to 500"),
        ("bundle", ["RUN", "exe"], "bundle, onnx"),
        ("bundle", ["RUN", ["onnx"]], "bundle, onnx"),
    ],
)
def test_case_92_wrong_values_are_refused_in_a_sentence(
    app: App, session: dict[str, Any], name: str, arguments: list[Any], told: str
) -> None:
    keys = {"RUN": session["run_key"], "SET": session["seen"]["set_key"]}
    event, data = called(app, name, [keys[arguments[0]], *arguments[1:]])
    assert event == "error" and told in data["error"] and len(data["error"]) < 300, data


def test_a_number_beyond_all_bounds_waits_no_longer_than_the_longest(app: App, session: dict[str, Any]) -> None:
    assert called(app, "status", [session["run_key"], 10**400])[1][0]["state"] == "finished"


def test_errors_reach_a_python_program_as_the_same_sentence(client: Client) -> None:
    with pytest.raises(AppError, match=GONE):
        client.predict(NOBODYS, api_name="/status")


def test_case_92_nothing_else_can_be_asked_by_name(app: App, client: Client) -> None:
    shown = client.view_api(return_format="dict")
    assert set(shown["named_endpoints"]) == {f"/{name}" for name in NAMES}  # type: ignore[index]
    assert not shown["unnamed_endpoints"]  # type: ignore[index]
    with urllib.request.urlopen(f"{app.url}config", timeout=20) as answer:
        private = {one["api_name"] for one in json.load(answer)["dependencies"] if one["api_visibility"] == "private"}
    assert len(private) > 5
    for route in ("call", "call/v2", "run", "api"):
        for name in private:
            asked = urllib.request.Request(
                f"{app.url}gradio_api/{route}/{name}",
                data=b'{"data": [], "fn_index": 0}',
                headers={"content-type": "application/json"},
            )
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(asked, timeout=20)
            assert caught.value.code == 404, (route, name)


def test_case_85_a_page_of_another_site_cannot_call(app: App) -> None:
    for path in ("call/status", "mcp/"):
        asked = urllib.request.Request(
            f"{app.url}gradio_api/{path}",
            data=b'{"data": ["x", 0]}',
            headers={"content-type": "application/json", "origin": "https://evil.example"},
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(asked, timeout=5)
        assert caught.value.code == 403


def test_guessed_classes_are_confirmed_first_and_no_model_is_said_to_be_missing_before_its_time(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a trainer, so that the run goes on waiting."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(api, "_MOST_WAIT", 0)
    upload = tmp_path / "flat.zip"
    with zipfile.ZipFile(upload, "w") as archive:
        for shape in ("star", "circle"):
            for number in range(8):
                archive.writestr(f"{shape}_{number:02}.jpg", picture(number, shape=shape))
    work = Workspace(settings)
    with gr.Blocks():
        asked = Api(work)
    try:
        seen = asked.inspect(str(upload), CALLER)
        assert seen["classes"] == {"circle": 8, "star": 8} and seen["ways"][0]["guess"]
        way = seen["ways"][0]["id"]
        with pytest.raises(Exception, match=f"only a guess.*{way}"):
            asked.train(seen["set_key"], CALLER)
        run = asked.train(seen["set_key"], CALLER, classes_from=way)
        assert run["seconds"] > 0
        assert asked.status(run["run_key"]) == {"state": "waiting", "ahead": 0}
        for early in (lambda: asked.predict(run["run_key"], [str(upload)]), lambda: asked.bundle(run["run_key"])):
            with pytest.raises(Exception, match="status"):
                early()
    finally:
        work.sets.close()


@pytest.mark.slow
def test_without_the_extra_for_agents_the_app_starts_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['mcp'] = None\n")
    with running(tmp_path, PYTHONPATH=str(tmp_path)) as app:
        assert called(app, "status", [NOBODYS, 0])[0] == "error"
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{app.url}gradio_api/mcp/schema", timeout=20)
        assert "MCP" not in app.log.read_text()
