"""Settings are read once at start, frozen, and passed in; nothing else in the service looks at the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from index.limits import MIN_RECALL, RECALL
from service.fetching.urls import FetchHosts
from service.setting_values import expanded, host_of, read_dotenv

PREFIX = "LOOKALIKE_"

Location = Annotated[Path, AfterValidator(expanded)]
Host = Annotated[str, AfterValidator(host_of)]

# Kubernetes injects these for every Service; for one called "lookalike" they carry our prefix.
_KUBERNETES = re.compile(r"^LOOKALIKE_(?:.*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT_\d+_.*)$")


# Settings of the contract whose feature is not built: their defaults say what this version does anyway.
NOT_YET = {
    "engine": "embedded",
    "milvus_uri": "",
}


# First steps of the service's own paths: a prefix that is one of them would be taken for it.
OWN_PATHS = frozenset({"v1", "docs", "static", "livez", "readyz", "metrics", "openapi.json", "problems", "admin"})
_PREFIX_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://((?:\[[0-9a-f:.]+\]|[^\s/?#@:*\[\]]+)(?::\d{1,5})?)")
_HOST = re.compile(r"\[[0-9a-f:.]+\]|[0-9a-f]*:[0-9a-f:.]+|(?:\*\.)?[^\s/?#@:*\[\],]+")


def _listed(value: str) -> list[str]:
    return [each.strip() for each in value.split(",") if each.strip()]


def _origin(text: str) -> str:
    if text in ("*", "null"):
        return text
    found = _ORIGIN.fullmatch(text.lower().removesuffix("/"))
    if found is None:
        raise ValueError(f"{text} is no origin; write scheme://host or scheme://host:port, without a path, or *")
    scheme, authority = found[1], found[2]
    return f"{scheme}://{authority.removesuffix({'http': ':80', 'https': ':443'}.get(scheme, ':'))}"


def _host(text: str) -> str:
    name = text.lower().removesuffix(".")
    if name == "*":
        return name
    if not _HOST.fullmatch(name):
        raise ValueError(f"{text} is no host's name; write it without scheme, port and path, *.name for all below it")
    return name.strip("[]")


class SettingsError(Exception):
    """A setting is unknown or out of range. One line: which, and what is allowed."""


class Settings(BaseSettings):
    """Everything that can be set from outside, one field per `LOOKALIKE_` variable of the contract."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    data_dir: Location = Field(Path("data"), description="Where catalogue, models and originals live")
    model_dir: Location | None = Field(None, description="Model artefacts; default: models under the data directory")
    host: Host = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the network runs")
    precision: Literal["auto", "fp32", "bf16", "int8", "fp16"] = Field(
        "auto", description="Precision for new collections"
    )
    runtime: Literal["auto", "onnxruntime", "openvino"] = Field(
        "auto", description="What runs the network on a CPU; auto: what is fastest here, by measurement"
    )
    model: str = Field("resnet50", description="The model's name for new collections")
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0: as many as the process may use")
    cors_origins: str = Field("", description="Comma-separated origins that may call from a browser; * for all")
    allowed_hosts: str = Field("", description="Comma-separated names to answer to beside loopback ones; * for any")
    root_path: str = Field("", description="Path prefix under which a proxy shows the service")
    max_upload_bytes: int = Field(20 * 2**20, ge=1024, description="Largest body of one request")
    max_import_bytes: int = Field(4 * 2**30, ge=1024, description="Largest uploaded file to import; it goes to disk")
    max_pixels: int = Field(64_000_000, ge=1, description="Most pixels of one picture, all frames together")
    queue_limit: int = Field(64, ge=1, le=100_000, description="Requests that may wait or run before 503")
    max_memory_bytes: int = Field(
        0, ge=0, description="Memory from near which writes are refused; 0: what the container, or the machine, has"
    )
    jobs: int = Field(2, ge=1, le=64, description="Jobs of one kind that run at a time; the rest wait for their turn")
    recall: float = Field(
        RECALL, ge=MIN_RECALL, le=1, allow_inf_nan=False, description="Share of the true nearest that searches find"
    )
    request_timeout: float = Field(30.0, gt=0, description="Seconds from arrival until a waiting request gives up")
    keep_originals: bool = Field(True, description="Keep uploaded bytes by sha256, so that another model can re-embed")
    erase_days: float = Field(
        7.0, ge=0, le=36_500, description="Days until what was deleted is erased from every file; 0: by command alone"
    )
    insecure: bool = Field(False, description="Answer other machines without keys; for a proxy that asks for its own")
    bootstrap_key_file: Location | None = Field(
        None, description="File with the first admin key; made where it does not exist, while there are no keys"
    )
    fetch_urls: bool = Field(False, description="Whether pictures are fetched from http and https addresses")
    fetch_hosts: str = Field(
        "", description="Comma-separated private hosts that may be fetched from, host or host:port"
    )
    weights: Location | None = Field(
        None, description="The model's package, already fetched, for machines without npm or pip"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged")
    log_format: Literal["console", "json"] = Field("console", description="How log lines look")
    test_data: Location | None = Field(None, description="Photographs for tests and benchmarks")

    @field_validator("cors_origins")
    @classmethod
    def _normal_origins(cls, value: str) -> str:
        """As browsers send them: no trailing slash, lower case, without a port that goes without saying."""
        return ",".join(_origin(each) for each in _listed(value))

    @field_validator("allowed_hosts")
    @classmethod
    def _normal_hosts(cls, value: str) -> str:
        return ",".join(_host(each) for each in _listed(value))

    @field_validator("fetch_hosts")
    @classmethod
    def _readable_hosts(cls, value: str) -> str:
        FetchHosts.of(value)
        return value

    @field_validator("root_path")
    @classmethod
    def _normal_root(cls, value: str) -> str:
        root = value.rstrip("/")
        if root and not _PREFIX_PATH.fullmatch(root):
            raise ValueError("must be a path such as /lookalike: letters, digits, . _ ~ - between slashes")
        if root.split("/")[1:2] and root.split("/")[1] in OWN_PATHS:
            raise ValueError(f"/{root.split('/')[1]} is a path of the service itself; choose another prefix")
        return root

    @property
    def models(self) -> Path:
        """The directory of model artefacts."""
        return self.model_dir or self.data_dir / "models"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load_settings` hands everything in, so that nothing is read twice or behind our back.
        return (init_settings,)


def load_settings(
    environ: Mapping[str, str] | None = None, dotenv: Path | None = Path(".env"), **overrides: Any
) -> tuple[Settings, list[str]]:
    """Reads settings from the environment over `.env`, then `overrides` (None values mean "not given").

    Returns the settings and warnings to log (ignored variables). Raises SettingsError for an unknown variable with the
    prefix or a value out of range.
    """
    given: dict[str, str] = {}
    if dotenv is not None and dotenv.is_file():
        try:
            given.update(read_dotenv(dotenv))
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{dotenv}: {error.strerror or error}" if isinstance(error, OSError) else str(error)
            ) from None
    given.update(os.environ if environ is None else environ)

    values: dict[str, Any] = {}
    warnings: list[str] = []
    for name, value in given.items():
        if not name.upper().startswith(PREFIX):
            continue
        key = name.upper()
        field = key.removeprefix(PREFIX).lower()
        if _KUBERNETES.match(key) or (key == PREFIX + "PORT" and "://" in value):
            warnings.append(f"{name} ignored: it looks injected by Kubernetes for a Service called lookalike")
        elif field in NOT_YET:
            if value.lower() not in ("", NOT_YET[field]):
                raise SettingsError(f"{name}={value} is not supported by this version; unset it")
        elif field in Settings.model_fields:
            if value != "":
                values[field] = value
        else:
            raise SettingsError(f"{name} is not a setting of Lookalike; see the list in README.md, or unset it")
    values.update({k: v for k, v in overrides.items() if v is not None})
    try:
        return Settings(**values), warnings
    except ValidationError as error:
        first = error.errors()[0]
        where = PREFIX + str(first["loc"][0]).upper() if first["loc"] else "settings"
        raise SettingsError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
