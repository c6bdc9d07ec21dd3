"""The named endpoints by the clients people use: gradio_client, plain HTTP and MCP, against the real app."""

import asyncio
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.browser import ROOT, App
from tests.conftest import Zipper, picture
from tl_core.bundle.bundle import load
from tl_core.bundle.files import from_zip

NAMES = {"inspect", "train", "status", "predict", "bundle"}


@pytest.fixture(scope="module")
def client(app: App) -> Client:
    return Client(app.url, verbose=False)


def until_over(status: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    for _ in range(20):
        if (found := status())["state"] in ("finished", "failed"):
            return found
    raise AssertionError(found)


def test_a_program_does_the_whole_job(client: Client, make_zip: Zipper, tmp_path: Path) -> None:
    upload = make_zip({"stars": 12, "circles": 12, "notes/readme.txt": b"no picture"})
    seen = client.predict(handle_file(str(upload)), api_name="/inspect")
    assert seen["classes"] and len(seen["set_key"]) == 22
    begun = client.predict(seen["set_key"], "quick", api_name="/train")
    assert begun["seconds"] > 0
    run = begun["run_key"]
    end = until_over(lambda: client.predict(run, 15, api_name="/status"))
    assert end["state"] == "finished" and 0 <= end["interval"][0] <= end["accuracy"] <= end["interval"][1] <= 1

    files = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    files[0].write_bytes(picture(77, shape="star"))
    files[1].write_bytes(b"no picture")
    first, second = client.predict(run, [handle_file(str(file)) for file in files], api_name="/predict")
    assert first["label"] in ("stars", "circles") and abs(sum(first["ranking"].values()) - 1) < 1e-4
    assert first["file"] == "a.jpg" and "problem" in second

    made = client.predict(run, "bundle", api_name="/bundle")
    path = made if isinstance(made, str) else made["path"]
    _, info = load(from_zip(Path(path), tmp_path / "b"))
    assert info.class_names == ("circles", "stars")


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("/status", ("A" * 22,), "no longer"),
        ("/status", ("../../etc",), "no longer"),
        ("/train", ("A" * 22, "quick"), "no longer"),
        ("/predict", ("A" * 22, []), "no longer"),
        ("/bundle", ("A" * 22, "bundle"), "no longer"),
        ("/inspect", ("/etc/passwd",), "uploaded to"),
        ("/inspect", ({"path": "/etc/passwd"},), "uploaded to"),
    ],
)
def test_case_90_what_is_not_yours_and_what_is_not_there_are_refused_alike(
    client: Client, name: str, arguments: tuple[Any, ...], told: str
) -> None:
    with pytest.raises((AppError, ValueError)) as caught:
        client.predict(*arguments, api_name=name)
    assert "Traceback" not in str(caught.value) and "/work" not in str(caught.value)
    if isinstance(caught.value, AppError):
        assert told in str(caught.value) or "gone" in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [[None], [5], [{"a": 1}], ["x" * 1_000_000], ["A" * 22, "NaN"], ["A" * 22, 1e300]]
)
def test_case_92_wrong_types_are_refused_in_a_sentence(app: App, arguments: list[Any]) -> None:
    event, data = called(app, "status", arguments)
    assert event == "error" and "Traceback" not in data


def test_only_five_things_can_be_asked(client: Client) -> None:
    shown = client.view_api(return_format="dict")
    assert set(shown["named_endpoints"]) == {f"/{name}" for name in NAMES}  # type: ignore[index]
    with pytest.raises(ValueError, match="Cannot find a function"):
        client.predict("x", api_name="/begin")


def called(app: App, name: str, arguments: list[Any]) -> tuple[str, str]:
    """One call by plain HTTP: the last event and its data."""
    body = json.dumps({"data": arguments}).encode()
    asked = urllib.request.Request(
        f"{app.url}gradio_api/call/{name}", data=body, headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        number = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{app.url}gradio_api/call/{name}/{number}", timeout=60) as stream:
        text = stream.read().decode()
    event, data = text.strip().split("\n\n")[-1].split("\n", 1)
    return event.removeprefix("event: "), data.removeprefix("data: ")


def test_plain_http_is_enough(app: App) -> None:
    event, data = called(app, "status", ["A" * 22, 0])
    assert event == "error" and "Traceback" not in data


def test_case_85_a_page_of_another_site_cannot_call(app: App) -> None:
    asked = urllib.request.Request(
        f"{app.url}gradio_api/call/status",
        data=b'{"data": ["x", 0]}',
        headers={"content-type": "application/json", "origin": "https://evil.example"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked, timeout=5)
    assert caught.value.code == 403


def test_an_agent_finds_documented_tools(app: App) -> None:
    mcp = pytest.importorskip("mcp", reason="gradio[mcp] is not installed")
    from mcp.client.streamable_http import streamablehttp_client

    async def ask() -> Any:
        async with (
            streamablehttp_client(f"{app.url}gradio_api/mcp/") as (read, write, _),
            mcp.ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            return tools, await session.call_tool("status", {"run_key": "A" * 22, "wait_seconds": 0})

    tools, answer = asyncio.run(ask())
    assert {tool.name for tool in tools} == NAMES
    assert all(tool.description and len(tool.description) > 40 for tool in tools)
    train = next(tool for tool in tools if tool.name == "train")
    assert set(train.inputSchema["properties"]) == {"set_key", "effort"}
    assert answer.isError or "no longer" in str(answer.content)


def test_the_documents_name_every_endpoint_and_its_parameters() -> None:
    import inspect

    from tl_ui.api import Api

    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"## {name}" in text
        parameters = [p for p in inspect.signature(getattr(Api, name)).parameters if p != "self"]
        assert all(f"`{parameter}`" in text for parameter in parameters), name
