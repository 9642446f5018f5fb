"""How a model is chosen: by the router, and from the last copy of the catalogue while the router is away."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date

import pytest

from services.catalogue.decision_ids import require_own
from services.catalogue.values import Capability
from services.chassis.auth.values import ANYONE
from services.chassis.errors import AntiphonError, DeadlineExceeded, FailedPrecondition, InvalidRequest, Reason
from services.completion.models import ModelBook
from services.completion.ports import CallStatus, ListedModel, ListedPrices
from services.completion.request import Constraints, Objective, Request
from services.llm.values import GenerationOptions, ImagePart, Message, Role, Tool
from tests.unit.completion.completion_parts import ask, down, rig, until, words

AWAY = down(Reason.ROUTER_UNAVAILABLE)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AWAY, "router_unavailable"),
        (DeadlineExceeded("slow"), "router_timeout"),
        (AntiphonError("defect there"), "router_unavailable"),
        (FailedPrecondition("odd", reason=Reason.STORE_MISMATCH), "router_unavailable"),
        (InvalidRequest("?", reason=Reason.UNKNOWN_MODEL, field="model"), "catalogue_mismatch"),
    ],
)
async def test_without_the_router_a_prudent_model_answers(error: AntiphonError, reason: str) -> None:
    async with rig() as r:
        r.router.error = error
        completed = (await r.complete()).completed
        assert completed.degraded == (reason,)
        assert completed.answer.model == "large", "nobody has judged the prompt: a model for simple ones is a gamble"
        assert completed.routing is not None
        assert completed.routing.decision_id == ""
        r.router.error = None
        assert (await r.complete(ask("And now?"))).completed.degraded == ()
        await r.settled()
        assert [report.decision_id for report in r.router.reports] == ["decision-2"]


@pytest.mark.parametrize(
    "error",
    [
        FailedPrecondition("none", reason=Reason.NO_MODEL_FITS),
        InvalidRequest("long", reason=Reason.CONTEXT_TOO_LONG, field="messages"),
    ],
)
async def test_what_the_router_says_of_the_request_goes_to_the_caller(error: AntiphonError) -> None:
    async with rig() as r:
        r.router.error = error
        with pytest.raises(type(error)) as caught:
            await r.complete()
        assert caught.value.reason is error.reason
        assert r.calls == 0
        r.router.error = None
        await r.settled()
        assert r.cache.open_leases == 0


async def test_candidates_that_cannot_be_called_from_here_are_passed_over() -> None:
    async with rig() as r:
        r.router.candidates = ("unheard-of", "small")
        completed = (await r.complete()).completed
        assert (completed.answer.model, completed.degraded) == ("small", ())
        r.router.candidates = ("unheard-of",)
        completed = (await r.complete(ask("Another?"))).completed
        assert (completed.answer.model, completed.degraded) == ("large", ("catalogue_mismatch",))


async def test_reports_tell_the_router_what_each_call_took() -> None:
    async with rig() as r:
        delivered = await r.complete()
        await r.settled()
        (report,) = r.router.reports
        assert report.decision_id == "decision-1"
        assert (report.source, report.model, report.status) == ("completion", "small", CallStatus.OK)
        assert (report.usage, report.cost) == (delivered.usage, delivered.cost)
        assert report.time_to_first_token is not None
        assert 0 <= report.time_to_first_token <= report.latency


NEW_PRICES = ListedPrices(
    input=5_000_000_000,
    output=0,
    cached_input=5_000_000_000,
    cache_write=5_000_000_000,
    per_request=7,
    date=date(2026, 2, 2),
    version="2026-02-02-new",
)


@pytest.mark.fault(63)
async def test_a_request_keeps_the_prices_with_which_it_was_begun() -> None:
    async with rig() as r:
        gate = asyncio.Event()
        r.one.scripts.append([gate, *words("An ", "answer.")])
        asking = asyncio.create_task(r.complete(ask(model="small")))
        await until(lambda: r.one.open == 1)
        r.router.listed = (ListedModel("small", NEW_PRICES, 1_000, 500, frozenset({Capability.STREAMING})),)
        assert await r.service.surroundings.read_catalogue()
        gate.set()
        assert (await asking).cost.nano_usd == 10 * 1_000 + 5 * 2_000
        assert (await r.complete(ask("And now?", model="small"))).cost.nano_usd == 10 * 5_000 + 7


async def test_the_routers_prices_go_before_those_of_the_own_file() -> None:
    async with rig() as r:
        small = r.service.models.find("small")
        assert small is not None
        listed = ListedModel("small", NEW_PRICES, 1_000, 500, frozenset({Capability.STREAMING}))
        r.router.listed = (listed, replace(listed, name="unheard-of"))
        assert await r.service.surroundings.read_catalogue()
        delivered = await r.complete(ask(model="small"))
        assert delivered.cost.nano_usd == 10 * 5_000 + 7
        assert delivered.cost.price_version == "2026-02-02-new"
        assert r.service.models.find("unheard-of") is None
        r.router.error = AWAY
        assert not await r.service.surroundings.read_catalogue()
        assert (await r.complete(ask("Still?", model="small"))).cost.price_version == "2026-02-02-new"


LISTED = ListedModel("small", NEW_PRICES, 1_000, 500, frozenset({Capability.STREAMING}))


async def test_the_router_is_not_asked_where_there_is_nothing_to_decide() -> None:
    async with rig() as r:
        r.router.listed = (LISTED,)
        assert await r.service.surroundings.read_catalogue()
        completed = (await r.complete(ask(model="small"))).completed
        assert r.router.requests == []
        assert completed.degraded == ()
        routing = completed.routing
        assert routing is not None
        assert (routing.policy_version, routing.reasons) == ("explicit/1", ("explicit model",))
        require_own(ANYONE.tenant, routing.decision_id)
        await r.settled()
        (report,) = r.router.reports
        assert (report.decision_id, report.policy_version) == (routing.decision_id, "explicit/1")


@pytest.mark.parametrize(
    "request_",
    [
        ask(),
        ask(model="large"),
        replace(ask(model="small"), routing_policy="static"),
        replace(ask(model="small"), constraints=Constraints(max_latency=60.0)),
        replace(ask(model="small"), constraints=Constraints(denied=frozenset({"large"}))),
        ask("word " * 7_000, model="small"),
        ask("word " * 1_200, model="small"),
        replace(
            ask(model="small"),
            question=replace(ask(model="small").question, options=GenerationOptions(max_output_tokens=501)),
        ),
        replace(ask(model="small"), question=replace(ask(model="small").question, tools=(Tool("look_up"),))),
    ],
    ids=["any model", "not listed", "policy", "latency", "denied", "long", "no room", "long answer", "tools"],
)
async def test_the_router_is_asked_where_it_may_say_something_else(request_: Request) -> None:
    async with rig() as r:
        r.router.listed = (LISTED,)
        assert await r.service.surroundings.read_catalogue()
        await r.complete(request_)
        assert [asked for asked, _ in r.router.requests] == [request_]
        await r.settled()
        (report,) = r.router.reports
        assert (report.decision_id, report.policy_version) == ("decision-1", "")


async def test_a_router_that_went_away_is_asked_for_explicit_models_too() -> None:
    async with rig() as r:
        r.router.listed = (LISTED,)
        assert await r.service.surroundings.read_catalogue()
        r.router.error = AWAY
        assert not await r.service.surroundings.read_catalogue()
        assert (await r.complete(ask(model="small"))).completed.degraded == ("router_unavailable",)


def _with(request: Request, **constraints: object) -> Request:
    return replace(request, constraints=Constraints(**constraints))  # type: ignore[arg-type]


async def _book() -> ModelBook:
    async with rig() as r:
        return r.service.models


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (ask(), ["large", "small"]),
        (replace(ask(), objective=Objective.QUALITY), ["large", "small"]),
        (replace(ask(), objective=Objective.LATENCY), ["large", "small"]),
        (ask(model="small"), ["small"]),
        (_with(ask(), allowed=frozenset({"small"})), ["small"]),
        (_with(ask(), denied=frozenset({"large"})), ["small"]),
        (_with(ask(), max_cost=1_500_000), ["small"]),
        (_with(ask(), max_latency=5.0), ["small"]),
        (_with(ask(), capabilities=frozenset({Capability.TOOLS})), ["large"]),
        (replace(ask(), question=replace(ask().question, tools=(Tool("look_up"),))), ["large"]),
        (replace(ask(), question=replace(ask().question, options=GenerationOptions(max_output_tokens=600))), ["large"]),
        (ask("word " * 1_200), ["large"]),
    ],
)
async def test_the_choice_without_a_router_keeps_the_constraints(request_: Request, names: list[str]) -> None:
    routing = (await _book()).route(request_)
    assert [candidate.model for candidate in routing.candidates] == names
    assert routing.decision_id == ""


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (_with(ask(), max_cost=1), Reason.NO_MODEL_FITS),
        (_with(ask(model="small"), max_cost=1), Reason.NO_MODEL_FITS),
        (_with(ask(), denied=frozenset({"small", "large"})), Reason.NO_MODEL_FITS),
        (ask("word " * 100_000), Reason.CONTEXT_TOO_LONG),
        (
            replace(
                ask(),
                question=replace(
                    ask().question, messages=(Message(Role.USER, (ImagePart("https://example.org/a.png"),)),)
                ),
            ),
            Reason.NO_MODEL_FITS,
        ),
    ],
)
async def test_without_a_router_a_request_that_nothing_fits_is_refused(request_: Request, reason: Reason) -> None:
    book = await _book()
    with pytest.raises(AntiphonError) as caught:
        book.route(request_)
    assert caught.value.reason is reason
