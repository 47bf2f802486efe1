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


def test_a_recall_of_one_is_taken() -> None:
    assert load_settings({"LOOKALIKE_RECALL": "1.0"}, None)[0].recall == 1
    assert load_settings({}, None)[0].recall == 0.995


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
        ("LOOKALIKE_RECALL", "0"),
        ("LOOKALIKE_RECALL", "0.3"),
        ("LOOKALIKE_RECALL", "1.01"),
        ("LOOKALIKE_RECALL", "99.5"),
        ("LOOKALIKE_RECALL", "nan"),
        ("LOOKALIKE_RECALL", "high"),
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


ENCODED = "LOOKALIKE_PORT=8431\r\nLOOKALIKE_MODEL=größe\r\n"


@pytest.mark.parametrize(
    "data",
    [
        ENCODED.encode(),
        ENCODED.encode("utf-8-sig"),
        ENCODED.encode("utf-16"),
        b"\xfe\xff" + ENCODED.encode("utf-16-be"),
        ENCODED.encode("utf-16-le"),
        ENCODED.encode("utf-16-be"),
        ENCODED.encode("utf-32"),
    ],
    ids=["utf-8", "utf-8 with mark", "utf-16", "utf-16 the other way", "utf-16-le", "utf-16-be", "utf-32"],
)
def test_dotenv_is_read_in_the_encodings_that_editors_write(tmp_path: Path, data: bytes) -> None:
    (tmp_path / ".env").write_bytes(data)
    settings, _ = load_settings({}, tmp_path / ".env")
    assert (settings.port, settings.model) == (8431, "größe")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("A=1\nLOOKALIKE_MODEL=größe\n".encode("latin-1"), "line 2 is not UTF-8"),
        ("# für alle\nLOOKALIKE_PORT=1\n".encode("cp1252"), "line 1 is not UTF-8"),
        (b"LOOKALIKE_PORT=1\n\xff\xfe", "line 2 is not UTF-8"),
        (b"SQLite format 3\0\0", "is no text file"),
        (b"\xff\xfeA", "is not UTF-8"),
    ],
)
def test_a_dotenv_that_is_no_text_is_told_in_one_line(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / ".env").write_bytes(data)
    with pytest.raises(SettingsError, match=says) as error:
        load_settings({}, tmp_path / ".env")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["DATA_DIR", "MODEL_DIR", "WEIGHTS", "TEST_DATA"])
def test_a_tilde_in_a_path_is_the_home_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / ".env").write_text(f"LOOKALIKE_{name}=~/some/where\n")
    home = Path("~").expanduser()
    for settings, _ in (
        load_settings({}, tmp_path / ".env"),
        load_settings({f"LOOKALIKE_{name}": "~/some/where"}, None),
        load_settings({}, None, **{name.lower(): Path("~/some/where")}),
    ):
        assert getattr(settings, name.lower()) == home / "some/where"


def test_the_home_of_nobody_is_told_in_one_line() -> None:
    with pytest.raises(SettingsError, match="LOOKALIKE_DATA_DIR: ~nobody-of-that-name is no user"):
        load({"LOOKALIKE_DATA_DIR": "~nobody-of-that-name/data"})


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::1", "::1"), ("[::1]", "::1"), ("::", "::"),
        ("localhost", "localhost"), ("My-Host.example", "My-Host.example"), ("lookalike_web", "lookalike_web"),
        ("localhost.", "localhost"), ("münchen.example", "xn--mnchen-3ya.example"), (" localhost ", "localhost"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)  # fmt: skip
def test_hosts_are_addresses_or_names(host: str, taken: str) -> None:
    assert load_settings({"LOOKALIKE_HOST": host}, None)[0].host == taken


@pytest.mark.parametrize(
    "host",
    [
        "my host", "http://localhost", "localhost:8000", "127.0.0.1:8000", "127.0.0", "256.1.1.1", "-a.example", "a-.b",
        "a..b", ".", "a" * 64, ".".join(["a" * 60] * 5), "host/path", "a\nb", "*", "ho$t", "\udcff", "::g",
    ],
)  # fmt: skip
def test_what_is_no_host_is_told_in_one_line(host: str) -> None:
    with pytest.raises(SettingsError, match="LOOKALIKE_HOST") as error:
        load({"LOOKALIKE_HOST": host})
    assert "\n" not in str(error.value)
