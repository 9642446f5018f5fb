"""The settings that every process of the suite understands, as plain immutable values.

A process's settings class derives from `SuiteSettings` and adds its own fields; a field whose type is another
`ServiceSettings` class is a *group* with its own prefix, shared by the processes that use it:

    class CacheSettings(SuiteSettings):
        ttl: float = Field(86_400.0, gt=0, description="Seconds an entry is served after it was stored.")
        embedding: EmbeddingSettings = Field(default_factory=EmbeddingSettings, description="…")

    ANTIPHON_STATE_DIR          [suite]     state_dir     a field of SuiteSettings
    ANTIPHON_CACHE_TTL          [cache]     ttl           a field of the process named `cache`
    ANTIPHON_EMBEDDING_THREADS  [embedding] threads       a field of the group `embedding`

`services.chassis.settings.load` fills them: environment over TOML file over default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from antiphon_client.channel import wrong_target

EX_CONFIG = 78
"""Exit status of a process whose settings are wrong (`sysexits.h`)."""


class SettingsError(Exception):
    """A setting is unknown or wrong. `key` is the name a person can look for; the message never holds its value."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key
        self.problem = problem


def env(name: str) -> dict[str, Any]:
    """For `Field(json_schema_extra=env("ANTIPHON_MODEL_DIR"))`: a variable not named after the field."""
    return {"env": name}


class ServiceSettings(BaseModel):
    """Base of every settings class: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def _host_and_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must be host:port with a port of at most 65535, such as 127.0.0.1:7100 or [::1]:0")
    return value


def _host_and_port_or_off(value: str) -> str:
    return value if value == "off" else _host_and_port(value)


ListenAddress = Annotated[str, AfterValidator(_host_and_port)]
"""`host:port`; port 0 takes a free one, which the process writes to its run file."""


def _called(value: str) -> str:
    if value and (wrong := wrong_target(value)):
        raise ValueError(wrong)
    return value


Target = Annotated[str, AfterValidator(_called)]
"""What a gRPC channel is opened to; empty is unset."""

UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
"""A path in which a leading `~` is the user's home folder."""


class SuiteSettings(ServiceSettings):
    """What all processes share. Variables are `ANTIPHON_<FIELD>`, the TOML table is `[suite]`."""

    state_dir: UserPath = Field(
        default=Path(".antiphon"), description="Folder of everything the suite keeps on this machine."
    )
    qdrant_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/@]+$",
        description="gRPC endpoint of a Qdrant server or cluster, `http[s]://host:6334`. Unset: the embedded store.",
    )
    qdrant_api_key_file: UserPath | None = Field(default=None, description="File that holds Qdrant's API key.")
    edgestore_token_file: UserPath | None = Field(
        default=None,
        description="File with the token of the embedded store. Unset: `edgestore.token` in the state folder.",
    )
    credentials_file: UserPath | None = Field(
        default=None,
        description="File with the API keys that callers may use; `antiphon key` edits it. Unset: `credentials.json` "
        "in the state folder. If that does not exist either, everyone on this machine may call everything.",
    )
    service_key_file: UserPath | None = Field(
        default=None,
        description="File with the API key (role `service`) with which completion calls the others. Unset: "
        "`service.key` in the state folder.",
    )
    catalogue: UserPath | None = Field(
        default=None, description="TOML file with models, prices and upstreams. Unset: the packaged catalogue."
    )
    completion_listen: ListenAddress = Field(
        default="127.0.0.1:7100", description="Where the completion service listens."
    )
    cache_listen: ListenAddress = Field(default="127.0.0.1:7101", description="Where the cache service listens.")
    router_listen: ListenAddress = Field(default="127.0.0.1:7102", description="Where the router service listens.")
    completion_target: Target | None = Field(
        default=None, description="gRPC target of the completion service. Unset: where it listens."
    )
    cache_target: Target | None = Field(
        default=None, description="gRPC target of the cache service. Unset: where it listens."
    )
    router_target: Target | None = Field(
        default=None, description="gRPC target of the router service. Unset: where it listens."
    )
    metrics_listen: Annotated[str, AfterValidator(_host_and_port_or_off)] = Field(
        default="127.0.0.1:0", description="Where each process serves Prometheus metrics over HTTP; `off` for nowhere."
    )
    health_listen: ListenAddress | None = Field(
        default=None,
        description="Where each process answers `grpc.health.v1`, and nothing else, in plaintext. Unset: a free port "
        "of loopback if `ANTIPHON_TLS_CERT_FILE` is set, otherwise nowhere but where the service listens.",
    )
    tls_cert_file: UserPath | None = Field(
        default=None,
        description="PEM file with the certificate chain of every gRPC and metrics port, which then speak TLS; also "
        "shown to the servers that are called.",
    )
    tls_key_file: UserPath | None = Field(
        default=None, description="PEM file with the private key of that certificate, not encrypted."
    )
    tls_client_ca_file: UserPath | None = Field(
        default=None,
        description="PEM file with the authorities that sign callers' certificates; every caller must then show one.",
    )
    tls_ca_file: UserPath | None = Field(
        default=None,
        description="PEM file with the authorities that sign the servers that are called, which makes these calls TLS. "
        "Unset: the well-known ones if `ANTIPHON_TLS_CERT_FILE` is set, otherwise calls are plaintext.",
    )
    reflection: bool = Field(
        default=True, description="Whether servers describe their API (gRPC reflection), which tools like grpcurl need."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least severe log line that is written. `debug` adds exceptions' texts, which may quote requests.",
    )
    log_sample: float = Field(
        default=0.01, ge=0, le=1, description="Share of successful, fast calls that are logged; others always are."
    )
    max_concurrent_rpcs: int = Field(
        default=1024, ge=1, le=100_000, description="Calls that one server works on at once; more are refused."
    )
    drain_delay: float = Field(
        default=0.0,
        ge=0,
        le=300,
        description="Seconds after a stop signal in which a server that already reports NOT_SERVING still takes calls.",
    )
    drain_grace: float = Field(
        default=20.0,
        ge=0,
        le=3600,
        description="Seconds that running calls get to finish before a stopping server ends them.",
    )

    @field_validator("tls_key_file")
    @classmethod
    def _both_or_neither(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) != (info.data.get("tls_cert_file") is None):
            raise ValueError("set both ANTIPHON_TLS_CERT_FILE and ANTIPHON_TLS_KEY_FILE, or neither")
        return value

    @field_validator("tls_client_ca_file")
    @classmethod
    def _only_with_a_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("tls_cert_file") is None:
            raise ValueError("callers can be asked for certificates only if ANTIPHON_TLS_CERT_FILE is set")
        return value

    def target(self, service: Literal["completion", "cache", "router"]) -> str:
        """The gRPC target at which the named service is called."""
        configured: str | None = getattr(self, f"{service}_target")
        listen: str = getattr(self, f"{service}_listen")
        return configured or dialable(listen)


def dialable(listen: str) -> str:
    """An address that reaches a listener from its own machine: `0.0.0.0` and `[::]` become loopback."""
    host, _, port = listen.rpartition(":")
    return {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host) + ":" + port  # noqa: S104 -- it is compared, not bound
