"""Limits come from the environment; secrets do not go on."""

from pathlib import Path

import pytest

from tl_core.errors import OptionError, plain
from tl_core.settings import Settings, scrubbed_environment


def test_every_setting_has_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TL_MAX_PICTURES", "7")
    monkeypatch.setenv("TL_DATA_DIR", str(tmp_path / "here"))
    found = Settings.from_environment()
    assert found.max_pictures == 7 and found.data_dir == tmp_path / "here"
    assert found.max_classes == Settings().max_classes
    assert Settings.from_json(found.to_json()) == found


def test_a_senseless_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_MAX_UPLOAD", "2GB")
    with pytest.raises(OptionError, match="TL_MAX_UPLOAD: found “2GB”; a whole number is needed"):
        Settings.from_environment()


def test_case_89_children_inherit_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OAUTH_CLIENT_SECRET", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD")
    for name in secrets:
        monkeypatch.setenv(name, "x")
    environment = scrubbed_environment(EXTRA="1")
    assert not set(secrets) & set(environment)
    assert environment["EXTRA"] == "1" and "PATH" in environment


def test_text_from_outside_is_one_harmless_line() -> None:
    assert plain("a\nb\t\u202ec\u200b  d\x00") == "a b c d"
    assert plain("x" * 100, 10) == "x" * 9 + "…"
