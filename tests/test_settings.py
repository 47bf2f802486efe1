"""Settings: known names only, environment over .env, Kubernetes' injected names ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import SettingsError, load_settings


def load(environ: dict[str, str], dotenv: Path | None = None, **overrides: object) -> tuple[object, list[str]]:
    return load_settings(environ, dotenv, **overrides)


def test_defaults_are_the_contracts() -> None:
    settings, warnings = load_settings({}, None)
    assert (settings.host, settings.port, settings.max_upload_bytes) == ("127.0.0.1", 8000, 20 * 2**20)
    assert settings.models == Path("data/models") and not warnings


def test_the_environment_beats_dotenv_and_options_beat_both(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOOKALIKE_PORT=1000\nLOOKALIKE_HOST=0.0.0.0\nOTHER=1\n")
    settings, _ = load_settings({"LOOKALIKE_PORT": "2000"}, tmp_path / ".env", host=None)
    assert (settings.host, settings.port) == ("0.0.0.0", 2000)
    settings, _ = load_settings({"LOOKALIKE_PORT": "2000"}, tmp_path / ".env", port=3000)
    assert settings.port == 3000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOOKALIKE_PROT", "8000"),
        ("LOOKALIKE_PORT", "eight"),
        ("LOOKALIKE_PORT", "70000"),
        ("LOOKALIKE_DEVICE", "tpu"),
        ("LOOKALIKE_QUEUE_LIMIT", "0"),
    ],
)
def test_an_unknown_name_or_value_is_an_error_of_one_line(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as error:
        load({name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "LOOKALIKE_SERVICE_HOST",
        "LOOKALIKE_SERVICE_PORT",
        "LOOKALIKE_SERVICE_PORT_HTTP",
        "LOOKALIKE_PORT_8000_TCP_ADDR",
    ],
)
def test_names_that_kubernetes_injects_are_ignored_with_a_warning(name: str) -> None:
    settings, warnings = load_settings({name: "10.0.0.1", "LOOKALIKE_PORT": "tcp://10.0.0.1:8000"}, None)
    assert settings.port == 8000
    assert len(warnings) == 2


def test_settings_of_features_to_come_are_taken_at_their_defaults_alone() -> None:
    load({"LOOKALIKE_FETCH_URLS": "false", "LOOKALIKE_ENGINE": "embedded"})
    with pytest.raises(SettingsError, match="LOOKALIKE_ENGINE=milvus is not supported"):
        load({"LOOKALIKE_ENGINE": "milvus"})


def test_settings_are_frozen() -> None:
    settings, _ = load_settings({}, None)
    with pytest.raises(ValueError):
        settings.port = 1  # type: ignore[misc]
