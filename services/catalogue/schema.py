"""The strict shape of a catalogue file; every unknown key and wrong value is an error that names the key.

`default.toml` beside this file is the commented example. Decimals are read as such, never through a float.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from services.catalogue.money import nano_usd, price_version
from services.catalogue.values import Capability, Latency, Model, Prices, Quality, Tier, UpstreamKind, UpstreamSpec

RESERVED_NAMES = frozenset({"auto"})
"""`auto` is what callers write for "route"; no model may have that name."""

DEFAULT_P_CORRECT: Mapping[Tier, Mapping[Tier, float]] = {
    Tier.SIMPLE: {Tier.SIMPLE: 0.92, Tier.MODERATE: 0.75, Tier.COMPLEX: 0.50},
    Tier.MODERATE: {Tier.SIMPLE: 0.95, Tier.MODERATE: 0.87, Tier.COMPLEX: 0.70},
    Tier.COMPLEX: {Tier.SIMPLE: 0.97, Tier.MODERATE: 0.93, Tier.COMPLEX: 0.85},
}
"""Prior chance of a right answer, model's tier → question's class, for models that state none. Round numbers chosen by
hand: they order models, they measure nothing."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("must be 1 to 128 letters, digits or . _ : / @ -, beginning with a letter or digit")
    if name in RESERVED_NAMES:
        raise ValueError("must not be 'auto', which means: let the router choose")
    return name


def _check_env_name(name: str) -> str:
    if not _ENV_NAME.fullmatch(name):
        raise ValueError("must be the name of an environment variable")
    return name


def _to_float(value: object) -> object:
    return float(value) if isinstance(value, Decimal | int) and not isinstance(value, bool) else value


def _to_nano(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError('must be a decimal amount of USD, such as "0.15"')  # noqa: TRY004 - pydantic wants ValueError
    try:
        amount = Decimal(value)
    except ArithmeticError:
        raise ValueError('must be a decimal amount of USD, such as "0.15"') from None
    return nano_usd(amount)


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port != 0
    except ValueError:
        raise ValueError("must be a http or https URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_fine:
        raise ValueError("must be a http or https URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must have no user, password, query or fragment")
    return url.rstrip("/")


Name = Annotated[str, AfterValidator(_check_name)]
EnvName = Annotated[str, AfterValidator(_check_env_name)]
Url = Annotated[str, AfterValidator(_check_url)]
Usd = Annotated[int, BeforeValidator(_to_nano)]
Seconds = Annotated[float, BeforeValidator(_to_float), Field(gt=0, le=86_400, allow_inf_nan=False)]
Rate = Annotated[float, BeforeValidator(_to_float), Field(gt=0, le=1_000_000, allow_inf_nan=False)]
Chance = Annotated[float, BeforeValidator(_to_float), Field(ge=0, le=1, allow_inf_nan=False)]
TokenLimit = Annotated[int, Field(gt=0, lt=2**31)]
FilePath = Annotated[Path, Field(strict=False)]
TierName = Literal["simple", "moderate", "complex"]


class Table(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class PricesTable(Table):
    """USD per 1M tokens as decimals, and the day on which that was the price."""

    input: Usd
    output: Usd
    cached_input: Usd | None = None
    """Default: the input price. It is never free unless the file says 0."""
    cache_write: Usd | None = None
    """Default: the input price."""
    per_request: Usd = 0
    """USD per request."""
    date: date

    def prices(self) -> Prices:
        """Return the exact integer prices."""
        amounts = {
            "input": self.input,
            "output": self.output,
            "cached_input": self.input if self.cached_input is None else self.cached_input,
            "cache_write": self.input if self.cache_write is None else self.cache_write,
            "per_request": self.per_request,
        }
        return Prices(**amounts, date=self.date, version=price_version(self.date, amounts))


class LatencyTable(Table):
    """What to expect before anything was measured."""

    first_token_seconds: Seconds = 1.0
    tokens_per_second: Rate = 50.0


class ChancesTable(Table):
    """Prior chance of a right answer per class of question."""

    simple: Chance
    moderate: Chance
    complex: Chance

    @model_validator(mode="after")
    def _never_rising(self) -> Self:
        if not self.simple >= self.moderate >= self.complex:
            raise ValueError("must not rise from simple to moderate to complex")
        return self


class QualityTable(Table):
    """How good a model is."""

    tier: TierName
    p_correct: ChancesTable | None = None

    def quality(self) -> Quality:
        """Return the tier with its chances, by default those of the tier."""
        tier = Tier[self.tier.upper()]
        if self.p_correct is None:
            return Quality(tier, DEFAULT_P_CORRECT[tier])
        p = self.p_correct
        return Quality(tier, {Tier.SIMPLE: p.simple, Tier.MODERATE: p.moderate, Tier.COMPLEX: p.complex})


class ModelTable(Table):
    """`[models."<name>"]`"""

    upstream: str
    upstream_model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Default: the name of the table."""
    aliases: list[Name] = Field(default_factory=list)
    requires_env: list[EnvName] = Field(default_factory=list)
    """The model is offered only while all these environment variables are set and not empty."""
    stand_in: bool = False
    context_tokens: TokenLimit
    max_output_tokens: TokenLimit
    image_tokens: TokenLimit = 4096
    capabilities: list[Annotated[Capability, Field(strict=False)]] = Field(
        default_factory=lambda: [Capability.STREAMING]
    )
    tokenizer: FilePath | None = None
    """A `tokenizer.json`; a relative path starts at the catalogue file's folder."""
    prices: PricesTable
    latency: LatencyTable = LatencyTable()
    quality: QualityTable

    @model_validator(mode="after")
    def _output_fits(self) -> Self:
        if self.max_output_tokens > self.context_tokens:
            raise ValueError("max_output_tokens must not be more than context_tokens")
        return self

    def offered(self, environ: Mapping[str, str]) -> bool:
        """Return whether everything that the model requires of the environment is there."""
        return all(environ.get(name, "").strip() for name in self.requires_env)

    def model(self, name: str, folder: Path) -> Model:
        """Return the plain value."""
        return Model(
            name=name,
            upstream=self.upstream,
            upstream_model=self.upstream_model or name,
            prices=self.prices.prices(),
            latency=Latency(self.latency.first_token_seconds, self.latency.tokens_per_second),
            quality=self.quality.quality(),
            context_tokens=self.context_tokens,
            max_output_tokens=self.max_output_tokens,
            capabilities=frozenset(self.capabilities),
            aliases=tuple(self.aliases),
            stand_in=self.stand_in,
            tokenizer=None if self.tokenizer is None else folder / self.tokenizer.expanduser(),
            image_tokens=self.image_tokens,
        )


class UpstreamTable(Table):
    """`[upstreams."<name>"]`"""

    kind: Annotated[UpstreamKind, Field(strict=False)]
    base_url: Url | None = None
    base_url_env: EnvName | None = None
    """An environment variable which, if set, takes the place of `base_url`."""
    api_key_env: EnvName | None = None
    api_key_file: FilePath | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    connect_timeout_seconds: Seconds = 5.0
    first_token_timeout_seconds: Seconds = 30.0
    idle_timeout_seconds: Seconds = 30.0
    total_timeout_seconds: Seconds = 600.0
    legacy_max_tokens: bool = False
    stream_usage: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind is UpstreamKind.OPENAI and self.base_url is None:
            raise ValueError("base_url is required for kind openai")
        if self.kind is UpstreamKind.OFFLINE and (self.base_url or self.api_key_env or self.api_key_file):
            raise ValueError("kind offline calls nobody: it takes no base_url and no key")
        if self.api_key_env and self.api_key_file:
            raise ValueError("give api_key_env or api_key_file, not both")
        return self

    def upstream(self, name: str, folder: Path, environ: Mapping[str, str]) -> UpstreamSpec:
        """Return the plain value; `ValueError` if the URL that the environment gives is none."""
        url = environ.get(self.base_url_env, "").strip() if self.base_url_env else ""
        return UpstreamSpec(
            name=name,
            kind=self.kind,
            base_url=_check_url(url) if url else self.base_url or "",
            api_key_env=self.api_key_env or "",
            api_key_file=None if self.api_key_file is None else folder / self.api_key_file.expanduser(),
            headers=dict(self.headers),
            connect_timeout=self.connect_timeout_seconds,
            first_token_timeout=self.first_token_timeout_seconds,
            idle_timeout=self.idle_timeout_seconds,
            total_timeout=self.total_timeout_seconds,
            legacy_max_tokens=self.legacy_max_tokens,
            stream_usage=self.stream_usage,
        )


class CatalogueFile(Table):
    """The whole file."""

    include_default: bool = True
    """Add this file's entries to the packaged catalogue (an entry of the same name replaces the packaged one whole);
    `false`: this file alone."""
    upstreams: dict[Name, UpstreamTable] = Field(default_factory=dict)
    models: dict[Name, ModelTable] = Field(default_factory=dict)

    def names(self) -> Iterator[str]:
        """Yield every name and alias of every model."""
        for name, table in self.models.items():
            yield name
            yield from table.aliases
