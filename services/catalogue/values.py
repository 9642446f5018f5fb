"""Models, upstreams and prices as plain immutable values.

Units: prices are nano-USD per one million tokens, fees nano-USD per request, times seconds, limits tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum, StrEnum
from pathlib import Path


class Capability(StrEnum):
    """What a model can do beyond plain text in and out."""

    STREAMING = "streaming"
    TOOLS = "tools"
    IMAGES = "images"
    JSON_SCHEMA = "json_schema"
    REASONING = "reasoning"


class Tier(IntEnum):
    """How hard a question a model is meant for; also the class of a question. Ordered."""

    SIMPLE = 1
    MODERATE = 2
    COMPLEX = 3


class UpstreamKind(StrEnum):
    """Which adapter of the completion service speaks to an upstream."""

    OPENAI = "openai"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of one model, exact: nano-USD per 1M tokens, and nano-USD per request for the fee."""

    input: int
    output: int
    cached_input: int
    cache_write: int
    per_request: int
    date: date
    """The day on which the prices were valid."""
    version: str
    """`<date>-<hash>`: changes whenever any of the prices or the date changes."""


@dataclass(frozen=True, slots=True)
class Latency:
    """What to expect of a model before anything was measured: seconds to the first token, then tokens per second."""

    first_token: float
    tokens_per_second: float

    def expected(self, output_tokens: int) -> float:
        """Seconds until the last of `output_tokens`."""
        return self.first_token + output_tokens / self.tokens_per_second


@dataclass(frozen=True, slots=True)
class Quality:
    """A model's tier, and the prior chance that its answer is right per class of question (never rising with it)."""

    tier: Tier
    p_correct: Mapping[Tier, float]


@dataclass(frozen=True, slots=True)
class Model:
    """One model that may be asked for by `name` or an alias."""

    name: str
    upstream: str
    upstream_model: str
    """The upstream's own name of it."""
    prices: Prices
    latency: Latency
    quality: Quality
    context_tokens: int
    """Input and output together."""
    max_output_tokens: int
    capabilities: frozenset[Capability]
    aliases: tuple[str, ...] = ()
    stand_in: bool = False
    """Not a language model: routed to only if nothing else is offered, and never as a fallback of a real one."""
    tokenizer: Path | None = None
    """A `tokenizer.json` of the model; without one its tokens are estimated."""
    image_tokens: int = 4096
    """Upper bound of the tokens that one picture costs."""


@dataclass(frozen=True, slots=True)
class UpstreamSpec:
    """One server (or the built-in stand-in) that answers for models."""

    name: str
    kind: UpstreamKind
    base_url: str = ""
    """Without a trailing slash; empty for the stand-in."""
    api_key_env: str = ""
    api_key_file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_timeout: float = 5.0
    first_token_timeout: float = 30.0
    idle_timeout: float = 30.0
    """Longest silence between two tokens."""
    total_timeout: float = 600.0
    legacy_max_tokens: bool = False
    """Send `max_tokens` instead of `max_completion_tokens` (older OpenAI-compatible servers)."""
    stream_usage: bool = True
    """Ask for the usage chunk (`stream_options.include_usage`); a few servers refuse the field."""
