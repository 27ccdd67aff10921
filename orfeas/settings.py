"""How this installation runs: ``ORFEAS_*`` variables, or the same names in a ``.env`` file of the working folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from orfeas.accounts import Accounts
from orfeas.errors import BadRequest

PUBLIC_LIMITS: Mapping[str, float] = {
    "jobs_per_session": 10, "jobs_per_address": 20, "requests_per_minute": 120, "requests_at_once": 200,
}  # fmt: skip
# What the compose file, deploy/operate and deploy/Caddyfile read, and the app does not: one .env has it all.
OPERATED = (
    "IMAGE", "TARGET", "CUDA", "RUNTIME", "MEMORY", "APP_HOST", "API_HOST", "TLS", "CERTIFICATES", "SUBNET",
    "STOP_GRACE", "BACKUPS", "DRIVER", "RELEASES", "PYTHON", "PORTS", "UPSTREAMS", "BESIDE_MB", "BESIDE_VRAM_MB",
    "CADDY_TAG", "PROMETHEUS_TAG", "GRAFANA_TAG",
    "HOSTS", "HTTP_PORT", "HTTPS_PORT", "BIND", "CADDY_ADMIN", "CADDY_STORAGE", "CADDY_LOG", "HOLD",
)  # fmt: skip
# Kubernetes puts the address of each service into every container: ORFEAS_WEB_PORT_80_TCP_ADDR, of orfeas-web.
_OF_KUBERNETES = re.compile(r"\w+_(SERVICE_(HOST|PORT)\w*|PORT(_\d+_(TCP|UDP)\w*)?)")


def default_data_dir() -> Path:
    """``$XDG_DATA_HOME/orfeas``, or ``~/.local/share/orfeas``."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "orfeas"


class Settings(BaseSettings):
    """Frozen settings of one process. Each field is the variable ``ORFEAS_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix="ORFEAS_", env_file=".env", extra="ignore", frozen=True, allow_inf_nan=False
    )

    engine: Literal["auto", "sketch", "hunyuan3d", "ray"] = Field(
        "auto",
        description="which engine; auto takes Hunyuan3D where a GPU and its weights are found, else sketch; ray asks"
        " the workers of a cluster",
    )
    ray_address: str = Field(
        "auto",
        description="of the Ray cluster, for ORFEAS_ENGINE=ray: auto (the one this machine is a node of) or host:port",
    )
    ray_app: str = Field("orfeas", description="what the workers are called in the cluster, for ORFEAS_ENGINE=ray")
    sketch_shape: Literal["inflation", "learned"] = Field(
        "learned",
        description="where the built-in engine takes depth from: a small network that came with the app, or the"
        " inflated outline",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N; for engines that can use a GPU")
    hunyuan3d_path: Path | None = Field(
        None,
        description="file or folder with the weights of Hunyuan3D-2.1; else what `python -m orfeas download` fetched",
    )
    hunyuan3d_approximate: str = Field(
        "",
        description="approximations that make Hunyuan3D faster and its results inexact, by name: solver, guidance,"
        " latents; empty for none",
    )
    accept_hunyuan3d_license: bool = Field(
        False,
        description="you accept the Tencent Hunyuan 3D 2.1 Community License (not for the EU, the UK or South Korea)",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="where results are kept; the server makes it at its start, orfeas.generate with its first result",
    )
    keep_days: float = Field(30.0, ge=0, description="days after which a result is removed; 0 keeps it for ever")
    keep_gb: float = Field(
        20.0, ge=0, description="gigabytes of results above which the oldest are removed; 0 sets no limit"
    )
    host: str = Field(
        default_factory=lambda: os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),  # Hugging Face Spaces set that one
        description="address that the app listens on",
    )
    port: int = Field(7860, ge=1, le=65535, description="port that the app listens on")
    public_url: str = Field("", description="the address that users see, such as https://app.example.org")
    root_path: str = Field(
        "", description="the path below which a proxy shows the app, such as /studio; the proxy removes it"
    )
    trusted_proxies: str = Field(
        # Hugging Face's own proxy is the only way to a Space, and has no fixed address
        default_factory=lambda: "*" if os.environ.get("SPACE_ID") else "127.0.0.1,::1",
        description="addresses and networks whose X-Forwarded headers are believed, with commas; * for all",
    )
    queue_size: int = Field(20, ge=1, le=1000, description="how many jobs may wait; one more is refused with 503")
    jobs_per_session: int | None = Field(
        None, ge=0, description="jobs that one session may have running or waiting; 0: no limit"
    )
    jobs_per_address: int | None = Field(
        None, ge=0, description="jobs that one address may have running or waiting; 0: no limit"
    )
    requests_per_minute: float | None = Field(
        None,
        ge=0,
        description="uploads and calls a minute of one address, half of them at once; 0: no limit",
    )
    requests_at_once: int | None = Field(
        None, ge=0, description="requests of one address under way, a page's open event streams among them; 0: no limit"
    )
    auth: str = Field(
        "",
        repr=False,
        description="accounts, name:hash with commas between them, as `python -m orfeas hash-password NAME` prints"
        " them; empty: everybody may use the app",
    )
    stall_seconds: float = Field(
        600.0,
        ge=0,
        description="a job that runs and makes no progress for so long is given up; 0: never;"
        " Hunyuan3D's shapes on a CPU are left alone",
    )
    drain_seconds: float = Field(
        110.0, ge=0, le=3600, description="how long a stop waits for the jobs there are before they are stopped"
    )
    mcp: Literal["auto", "on", "off"] = Field(
        "auto", description="whether the endpoints are MCP tools as well; auto: where gradio[mcp] is installed"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="how the log is written; auto is text on a terminal and JSON elsewhere"
    )
    metrics: Literal["loopback", "open", "off"] = Field(
        "loopback", description="who may read /metrics: this machine itself, anybody, nobody"
    )
    metrics_token: SecretStr = Field(
        SecretStr(""), description="a bearer token that lets its bearer read /metrics from anywhere"
    )
    min_free_mb: int = Field(
        500, ge=0, description="megabytes of disk that have to stay free, or the app is not ready for new work"
    )
    tag: str = Field("", description="the version that an operator released, shown in /health and /metrics")
    sentry_dsn: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("sentry_dsn", "orfeas_sentry_dsn"),
        description="where bugs are reported, SENTRY_DSN too; needs pip install sentry-sdk; empty for nowhere",
    )

    @property
    def is_public(self) -> bool:
        """Whether others than the user of this machine can reach the app."""
        return bool(self.public_url) or self.host not in ("127.0.0.1", "::1", "localhost")

    def limit(self, name: str) -> float:
        """One of `PUBLIC_LIMITS` as it holds here; 0: no limit."""
        given = getattr(self, name)
        if given is not None:
            return given
        return PUBLIC_LIMITS[name] if self.is_public else 0

    @field_validator("hunyuan3d_path", mode="before")
    @classmethod
    def _take_empty_for_none(cls, value: Any) -> Any:
        return None if value == "" else value  # as a compose file hands on what is not set; a path it would be "."

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("it has to start with http:// or https://")
        return value.rstrip("/")

    @field_validator("auth")
    @classmethod
    def _check_auth(cls, value: str) -> str:
        Accounts(value)  # raises ValueError with a sentence
        return value

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, value: str) -> str:
        value = value.rstrip("/")
        if not re.fullmatch(r"(/[\w.~-]+)*", value, flags=re.ASCII):
            raise ValueError("it has to be a path such as /studio, of letters, digits, dots, dashes and slashes")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_trusted_proxies(cls, value: str) -> str:
        for entry in filter(None, (entry.strip() for entry in value.split(","))):
            try:
                if entry != "*":
                    ip_network(entry, strict=False)
            except ValueError:
                raise ValueError(
                    f"{entry!r} is neither an address nor a network such as 172.30.77.0/24; use such with commas"
                    " between them, or *"
                ) from None
        return value


def load_settings(**overrides) -> Settings:
    """`Settings` from the environment, ``.env`` and ``overrides``. Raises `BadRequest` naming the variable or file."""
    try:
        return Settings(**overrides)
    except (OSError, UnicodeDecodeError) as error:
        raise _refuse_file(error) from None
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        field = Settings.model_fields[name]
        is_secret = not field.repr or field.annotation is SecretStr
        value = "what it is" if is_secret else repr(first["input"])
        reason = str(first["ctx"]["error"]) if first["type"] == "value_error" else f"use {_allowed(field)}"
        raise BadRequest(f"ORFEAS_{name.upper()} cannot be {value}: {reason}.", "bad_setting") from None


def _refuse_file(error: OSError | UnicodeDecodeError) -> BadRequest:
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    return BadRequest(
        f"The file .env of this folder cannot be read: {reason}; mend it or run in another folder.", "bad_setting"
    )


def _allowed(field: FieldInfo) -> str:
    """The values of a field, in words."""
    choices = get_args(field.annotation)
    if get_origin(field.annotation) is Literal:
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    kinds = {*choices, field.annotation}
    if bool in kinds:
        return "1 or 0"
    if not kinds & {int, float}:
        return "a text"
    bounds = {name: getattr(one, name) for one in field.metadata for name in ("ge", "le") if hasattr(one, name)}
    number = "a whole number" if int in kinds else "a number"
    return f"{number} from {bounds['ge']:g} to {bounds['le']:g}" if "le" in bounds else f"{number} of 0 or more"


def explain_unknown(environment: Mapping[str, str] = os.environ, env_file: Path = Path(".env")) -> list[str]:
    """A sentence on each ORFEAS_* variable that nothing reads: a name that was mistyped goes unnoticed otherwise.

    Raises `BadRequest` where ``.env`` cannot be read.
    """
    known = [*(name.upper() for name in Settings.model_fields), *OPERATED]
    try:
        given = dotenv_values(env_file)
    except (OSError, UnicodeDecodeError) as error:
        raise _refuse_file(error) from None
    sentences = []
    for variable in sorted({*given, *environment}):
        prefix, _, name = variable.upper().partition("_")
        if prefix != "ORFEAS" or name in known or _OF_KUBERNETES.fullmatch(name):
            continue
        near = get_close_matches(name, known, n=1)
        remedy = f"did you mean ORFEAS_{near[0]}?" if near else ".env.example names those there are."
        sentences.append(f"{variable} is no setting and does nothing: {remedy}")
    return sentences
