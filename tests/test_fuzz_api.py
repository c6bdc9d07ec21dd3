"""The named endpoints under values that schemathesis makes up, by Gradio's own description of them."""

import json
import re
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.browser import App
from tl_core.settings import Settings
from tl_ui.api import ENDPOINTS
from tl_ui.page import build, translations
from tl_ui.workspace import Workspace

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
pytestmark = pytest.mark.slow
_CASES = 100  # of each endpoint


def described(settings: Settings) -> Any:
    """Our endpoints as Gradio describes them; the running app keeps that closed."""
    from gradio.routes import App as Routes

    page = build(Workspace(settings), translations(settings))
    page.queue(api_open=False)
    found = TestClient(Routes.create_app(page)).get("/gradio_api/openapi.json").json()
    return {**found, "paths": {path: told for path, told in found["paths"].items() if "/call/v2/" in path}}


def test_case_118_whatever_is_given_is_answered_or_refused_in_a_sentence(app: App, settings: Settings) -> None:
    told = described(settings)
    assert {path.rsplit("/", 1)[1] for path in told["paths"]} == ENDPOINTS
    operations = [found.ok() for found in schemathesis.openapi.from_dict(told).get_all_operations()]
    before, answers = len(app.log.read_text()), []
    with httpx.Client(base_url=app.url, trust_env=False, timeout=60) as client:
        for operation in operations:
            answers += answers_to(client, operation)
    assert {code for kind, code in answers if kind == "refused"} <= {400, 422}
    ours = [told for kind, told in answers if kind == "error" and told is not None]
    assert len(ours) > _CASES / 2 and not [told for told in ours if "our side" in told or "Traceback" in told]
    log = app.log.read_text()[before:]
    assert not re.search(r"bug [0-9a-f]{4} in|/tl_(ui|core)/", log), log[:5_000]


def answers_to(client: httpx.Client, operation: Any) -> list[tuple[str, Any]]:
    """How calls of one endpoint end, with values that fit its description and with others."""
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    found: list[tuple[str, Any]] = []

    @with_settings(max_examples=_CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes]))
    def ask(case: Any) -> None:
        found.append(answered(client, operation.path, case.body))

    ask()
    return found


def answered(client: httpx.Client, path: str, body: Any) -> tuple[str, Any]:
    """How a call ends, and the sentence it ends with."""
    try:
        content = json.dumps(body)
    except TypeError:  # bytes, or no body at all
        content = str(body)
    begun = client.post(
        path, content=content.encode("utf-8", "surrogatepass"), headers={"content-type": "application/json"}
    )
    if begun.status_code != 200:
        return "refused", begun.status_code
    place = path.replace("/v2", "") + "/" + begun.json()["event_id"]
    event, data = client.get(place).text.strip().split("\n\n")[-1].split("\n", 1)
    found = json.loads(data.removeprefix("data: "))
    return event.removeprefix("event: "), found["error"] if isinstance(found, dict) else None
