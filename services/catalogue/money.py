"""Integer money: prices from decimals, the cost of a usage, the version of a price list."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from decimal import Decimal

from services.catalogue.values import Model, Prices
from services.llm.values import Cost, Usage

NANO_PER_USD = 1_000_000_000
TOKENS_PER_PRICE = 1_000_000
"""Prices are stated per this many tokens, the way vendors list them."""

MAX_USD = Decimal(1_000_000)
"""Largest accepted price or fee. With it, a call of 2³¹ tokens still costs less than 2⁶³ nano-USD."""


def nano_usd(usd: Decimal) -> int:
    """Return `usd` as integer nano-USD; `ValueError` if that is negative, not exact, not finite or absurdly large."""
    if not usd.is_finite() or usd < 0:
        raise ValueError("must be a decimal amount of USD, zero or more")
    if usd > MAX_USD:
        raise ValueError(f"must not be more than {MAX_USD} USD")
    if int(usd.normalize().as_tuple().exponent) < -9:
        raise ValueError("must not have more than 9 decimal places: money is kept in whole nano-USD")
    return int(usd.scaleb(9))


def price(usage: Usage, model: Model) -> Cost:
    """Return what `usage` costs at the model's prices, rounded up once to whole nano-USD.

    `usage.input` includes the cached and the cache-write tokens, so these are taken out before the plain input price
    applies; an upstream that reports more of them than input is billed for what it reported, never for less than
    nothing. Reasoning tokens are part of the output. `ValueError` on a negative count.
    """
    if min(usage.input, usage.cached_input, usage.cache_write_input, usage.output) < 0:
        raise ValueError("token counts must not be negative")
    prices = model.prices
    plain = max(0, usage.input - usage.cached_input - usage.cache_write_input)
    total = (
        plain * prices.input
        + usage.cached_input * prices.cached_input
        + usage.cache_write_input * prices.cache_write
        + usage.output * prices.output
    )
    return Cost(nano_usd=-(-total // TOKENS_PER_PRICE) + prices.per_request, price_version=prices.version)


def upper_cost(prices: Prices, input_tokens: int, output_tokens: int) -> int:
    """Return the most nano-USD that a call within these bounds can cost, whatever part of its input is cached."""
    dearest_input = max(prices.input, prices.cached_input, prices.cache_write)
    total = input_tokens * dearest_input + output_tokens * prices.output
    return -(-total // TOKENS_PER_PRICE) + prices.per_request


def price_version(valid_on: date, amounts: dict[str, int]) -> str:
    """Return `<date>-<8 hex digits>`, a name for exactly these prices."""
    canonical = json.dumps(amounts, sort_keys=True, separators=(",", ":"))
    return f"{valid_on.isoformat()}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"
