"""Money is exact: what `price` says is the rational number, rounded up once."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalogue.catalogue import Catalogue
from services.catalogue.money import MAX_USD, nano_usd, price, price_version, upper_cost
from services.catalogue.values import Model, Prices
from services.llm.values import Usage

MODEL = Catalogue.load(None, {}).get("offline-small")
AMOUNTS = st.integers(0, 10**15)
TOKENS = st.integers(0, 2**31 - 1)


def with_prices(input_: int, cached: int, write: int, output: int, fee: int) -> Model:
    return replace(MODEL, prices=Prices(input_, output, cached, write, fee, MODEL.prices.date, "v"))


@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, TOKENS, TOKENS, TOKENS, TOKENS)
def test_the_cost_is_the_exact_sum_rounded_up_once(
    input_: int, cached: int, write: int, output: int, fee: int, plain: int, read: int, written: int, out: int
) -> None:
    model = with_prices(input_, cached, write, output, fee)
    usage = Usage(input=plain + read + written, cached_input=read, cache_write_input=written, output=out)
    million = Fraction(1, 1_000_000)
    exact = (plain * input_ + read * cached + written * write + out * output) * million + fee
    assert price(usage, model).nano_usd == math.ceil(exact)


@given(TOKENS, TOKENS, TOKENS, TOKENS)
def test_a_bound_is_never_below_the_cost(plain: int, read: int, written: int, out: int) -> None:
    usage = Usage(input=plain + read + written, cached_input=read, cache_write_input=written, output=out)
    assert price(usage, MODEL).nano_usd <= upper_cost(MODEL.prices, usage.input, out)


def test_the_largest_call_fits_into_64_bits() -> None:
    largest = nano_usd(MAX_USD)
    model = with_prices(largest, largest, largest, largest, largest)
    assert price(Usage(input=2**31 - 1, output=2**31 - 1), model).nano_usd < 2**63


@given(st.decimals(0, MAX_USD, places=9))
def test_prices_are_read_exactly(usd: Decimal) -> None:
    assert Fraction(nano_usd(usd), 10**9) == Fraction(usd)


@pytest.mark.parametrize("usd", ["-0.1", "0.0000000001", "1000000.000000001", "NaN", "Infinity"])
def test_an_amount_that_is_no_price_is_refused(usd: str) -> None:
    with pytest.raises(ValueError):
        nano_usd(Decimal(usd))


def test_a_known_bill() -> None:
    model = Catalogue.load(None, {"OPENAI_API_KEY": "x"}).get("gpt-4.1")
    usage = Usage(input=1_000, cached_input=400, output=250, reasoning=50)
    # 600 × 2.00 + 400 × 0.50 + 250 × 8.00 USD per million; reasoning is part of the output.
    assert price(usage, model).nano_usd == 1_200_000 + 200_000 + 2_000_000
    assert price(usage, model).price_version == model.prices.version


def test_a_fraction_of_a_nano_dollar_is_rounded_up() -> None:
    assert price(Usage(input=1), with_prices(1, 1, 1, 1, 0)).nano_usd == 1
    assert price(Usage(), with_prices(1, 1, 1, 1, 0)).nano_usd == 0
    assert price(Usage(), with_prices(1, 1, 1, 1, 7)).nano_usd == 7


def test_more_cached_than_input_never_lowers_the_bill() -> None:
    model = with_prices(10**9, 10**8, 10**9, 10**9, 0)
    assert price(Usage(input=10, cached_input=30), model).nano_usd == 30 * 100


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError):
        price(Usage(input=-1), MODEL)


def test_the_version_names_prices_and_date() -> None:
    date = MODEL.prices.date
    assert price_version(date, {"a": 1, "b": 2}) == price_version(date, {"b": 2, "a": 1})
    assert price_version(date, {"a": 1}) != price_version(date, {"a": 2})
    assert price_version(date, {"a": 1}) != price_version(date.replace(year=2020), {"a": 1})
