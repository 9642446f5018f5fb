"""The router over real gRPC, with the real store behind it: as its own process, the way a deployment runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from antiphon.llm.v1 import llm_pb2
from antiphon.router.v1 import router_pb2
from antiphon_client.errors import AntiphonError, from_status
from antiphon_client.router import AsyncRouterClient
from services.catalogue.decision_ids import EXPLICIT_POLICY, new_id
from services.router.adapters.outcome_store import RECORDED_AT, SPEC, point_id
from services.router.outcomes import Outcome, OutcomeKind
from services.router.settings import RouterSettings
from services.storage import Connection, locate

GUARD_S = 30.0
HARD = "Design a multi-region architecture for payments, compare the trade-offs and prove its consistency."
EASY = "How do I reset my password?"


def until(state: Callable[[], bool], what: str) -> None:
    guard = time.monotonic() + GUARD_S
    while not state():
        assert time.monotonic() < guard, what
        time.sleep(0.01)


class Child:
    """A process of the suite on a state folder."""

    def __init__(self, name: str, state_dir: Path, **environ: str) -> None:
        self.run_file = state_dir / "run" / f"{name}.json"
        self.run_file.unlink(missing_ok=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ANTIPHON_", "OPENAI_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"services.{name}"],
            env={
                **inherited,
                "ANTIPHON_STATE_DIR": str(state_dir),
                "ANTIPHON_METRICS_LISTEN": "off",
                "ANTIPHON_ROUTER_LISTEN": "127.0.0.1:0",
                **environ,
            },
            stderr=subprocess.PIPE,
        )

    def serving(self) -> Child:
        until(lambda: self.run_file.exists() or self.process.poll() is not None, "the process did not start")
        assert self.process.poll() is None, self.stderr()
        return self

    @property
    def address(self) -> str:
        return str(json.loads(self.run_file.read_text())["address"])

    def stderr(self) -> str:
        return self.process.communicate(timeout=GUARD_S)[1].decode()

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        self.process.communicate(timeout=GUARD_S)
        return self.process.returncode


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("router")


@pytest.fixture(scope="module")
def store(state_dir: Path) -> Iterator[Child]:
    child = Child("edgestore", state_dir).serving()
    yield child
    child.end()


@pytest.fixture(scope="module")
def router(state_dir: Path, store: Child) -> Iterator[Child]:
    child = Child("router", state_dir, ANTIPHON_ROUTER_OUTCOME_DELAY="0.01").serving()
    yield child
    assert child.end() == 0


def asked(text: str, **fields: object) -> router_pb2.RouteRequest:
    message = llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=text)])
    return router_pb2.RouteRequest(messages=[message], **fields)  # type: ignore[arg-type]


async def test_a_request_is_routed(router: Child) -> None:
    async with AsyncRouterClient(router.address) as client:
        easy, hard = await client.route(asked(EASY)), await client.route(asked(HARD))
        assert easy.candidates[0].model == "offline-small"
        assert easy.complexity == router_pb2.COMPLEXITY_SIMPLE
        assert hard.candidates[0].model == "offline-large"
        assert hard.complexity == router_pb2.COMPLEXITY_COMPLEX
        assert easy.candidates[0].expected_cost.nano_usd < hard.candidates[0].expected_cost.nano_usd
        assert easy.candidates[0].expected_latency.ToNanoseconds() > 0
        assert 0 < easy.input_tokens_expected <= easy.input_tokens_upper
        assert easy.decision_id != hard.decision_id
        assert (await client.route(asked(EASY, policy="keywords"))).policy_version == "keywords/1"
        explicit = await client.route(asked(HARD, model="offline-small"))
        assert [candidate.model for candidate in explicit.candidates] == ["offline-small"]
        assert explicit.complexity == router_pb2.COMPLEXITY_UNSPECIFIED


async def test_a_long_conversation_is_routed_too(router: Child) -> None:
    async with AsyncRouterClient(router.address) as client:
        answer = await client.route(asked("word " * 40_000), timeout=10)
        assert [candidate.model for candidate in answer.candidates] == ["offline-large"]


async def test_the_catalogue_is_listed(router: Child) -> None:
    async with AsyncRouterClient(router.address) as client:
        listed = await client.list_models(router_pb2.ListModelsRequest())
    assert [model.name for model in listed.models] == ["offline-large", "offline-small"]
    assert listed.models[0].tier == router_pb2.COMPLEXITY_COMPLEX
    assert listed.models[0].prices.input_nano_usd_per_million == 2_000_000_000
    assert listed.models[0].prices.price_date == "2026-01-01"
    assert listed.catalogue_version


USAGE, VERDICT = router_pb2.OUTCOME_KIND_USAGE, router_pb2.OUTCOME_KIND_VERDICT
CONSTRAINED = router_pb2.RouteConstraints


@pytest.mark.parametrize(
    ("request_", "code", "reason", "field"),
    [
        (router_pb2.RouteRequest(), "INVALID_ARGUMENT", "MISSING_FIELD", "messages"),
        (asked(EASY, model="nobody"), "INVALID_ARGUMENT", "UNKNOWN_MODEL", "model"),
        (asked(EASY, policy="magic"), "INVALID_ARGUMENT", "INVALID_FIELD", "policy"),
        (asked(EASY, reserve=True), "INVALID_ARGUMENT", "UNSUPPORTED_FIELD", "reserve"),
        (asked("word " * 200_000), "INVALID_ARGUMENT", "CONTEXT_TOO_LONG", "messages"),
        (
            asked(EASY, constraints=CONSTRAINED(allowed_models=["nobody"])),
            "INVALID_ARGUMENT", "UNKNOWN_MODEL", "constraints.allowed_models",
        ),
        (
            asked(EASY, constraints=CONSTRAINED(max_cost_nano_usd=0)),
            "INVALID_ARGUMENT", "INVALID_FIELD", "constraints.max_cost_nano_usd",
        ),
        (
            asked(EASY, constraints=CONSTRAINED(max_latency=Duration(seconds=-1))),
            "INVALID_ARGUMENT", "INVALID_FIELD", "constraints.max_latency",
        ),
        (
            asked(EASY, constraints=CONSTRAINED(capabilities=[router_pb2.CAPABILITY_UNSPECIFIED])),
            "INVALID_ARGUMENT", "INVALID_FIELD", "constraints.capabilities[0]",
        ),
        (asked(EASY, constraints=CONSTRAINED(max_cost_nano_usd=1)), "FAILED_PRECONDITION", "NO_MODEL_FITS", None),
    ],
)  # fmt: skip
async def test_a_wrong_request_is_refused_by_its_field(
    router: Child, request_: router_pb2.RouteRequest, code: str, reason: str, field: str | None
) -> None:
    async with AsyncRouterClient(router.address) as client:
        with pytest.raises(AntiphonError) as failed:
            await client.route(request_, timeout=10)
    assert failed.value.code is grpc.StatusCode[code]
    assert failed.value.reason == reason
    assert list(failed.value.fields) == ([field] if field else [])


def usage(decision_id: str, **fields: object) -> router_pb2.RecordOutcomeRequest:
    return router_pb2.RecordOutcomeRequest(
        decision_id=decision_id,
        kind=router_pb2.OUTCOME_KIND_USAGE,
        source="completion",
        model="offline-small",
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("report", "field"),
    [
        (router_pb2.RecordOutcomeRequest(), "decision_id"),
        (router_pb2.RecordOutcomeRequest(decision_id="x" * 65, source="s", kind=USAGE, model="m"), "decision_id"),
        (router_pb2.RecordOutcomeRequest(decision_id="d", kind=USAGE, model="m"), "source"),
        (router_pb2.RecordOutcomeRequest(decision_id="d", source="s", model="m"), "kind"),
        (router_pb2.RecordOutcomeRequest(decision_id="d", source="s", kind=USAGE), "model"),
        (router_pb2.RecordOutcomeRequest(decision_id="d", source="s", kind=VERDICT), "verdict"),
        (usage("d", latency=Duration(seconds=-1)), "latency"),
        (usage("d", time_to_first_token=Duration(nanos=-1)), "time_to_first_token"),
        (usage("d", policy_version="static/1"), "policy_version"),
        (
            router_pb2.RecordOutcomeRequest(
                decision_id="d", source="s", kind=VERDICT, verdict=router_pb2.VERDICT_BAD, policy_version="explicit/1"
            ),
            "policy_version",
        ),
    ],
)
async def test_a_wrong_report_is_refused_by_its_field(
    router: Child, report: router_pb2.RecordOutcomeRequest, field: str
) -> None:
    async with AsyncRouterClient(router.address) as client:
        with pytest.raises(AntiphonError) as failed:
            await client.record_outcome(report)
    assert list(failed.value.fields) == ([field] if field else [])


async def stored(state_dir: Path, decision_id: str, kind: OutcomeKind, source: str) -> Mapping[str, object]:
    """Wait for a report in the store."""
    settings = RouterSettings(state_dir=state_dir)
    connection = Connection(lambda: locate(settings), timeout=5.0)
    try:
        async with connection.collection(SPEC) as collection:
            guard = time.monotonic() + GUARD_S
            while True:
                found = await collection.get([point_id(Outcome(decision_id, kind, source))])
                if found:
                    return found[0].payload
                assert time.monotonic() < guard, "the report was not stored"
    finally:
        await connection.aclose()


async def test_a_report_is_taken_once_and_stored_with_its_decision(router: Child, state_dir: Path) -> None:
    async with AsyncRouterClient(router.address) as client:
        decision = (await client.route(asked(EASY))).decision_id
        report = usage(
            decision,
            usage=llm_pb2.Usage(input_tokens=12, output_tokens=34),
            cost=llm_pb2.Cost(nano_usd=56, price_version="v"),
            latency=Duration(seconds=1, nanos=500_000_000),
            status=router_pb2.CALL_STATUS_OK,
        )
        assert (await client.record_outcome(report)).recorded
        assert not (await client.record_outcome(report)).recorded
        verdict = router_pb2.RecordOutcomeRequest(
            decision_id=decision,
            kind=router_pb2.OUTCOME_KIND_VERDICT,
            source="client",
            verdict=router_pb2.VERDICT_BAD,
        )
        assert (await client.record_outcome(verdict)).recorded
        forgotten = new_id("default")
        assert (await client.record_outcome(usage(forgotten))).recorded
    payload = await stored(state_dir, decision, OutcomeKind.USAGE, "completion")
    assert payload["usage"] == {
        "input": 12, "cached_input": 0, "cache_write_input": 0, "output": 34, "reasoning": 0, "estimated": False,
    }  # fmt: skip
    assert payload["cost"] == {"nano_usd": 56, "price_version": "v"}
    assert payload["latency_s"] == 1.5
    assert payload["status"] == "ok"
    assert abs(float(str(payload[RECORDED_AT])) / 1e6 - time.time()) < GUARD_S
    joined = payload["decision"]
    assert isinstance(joined, dict)
    assert (joined["complexity"], joined["model"]) == ("simple", "offline-small")
    assert (await stored(state_dir, decision, OutcomeKind.VERDICT, "client"))["verdict"] == "bad"
    assert "decision" not in await stored(state_dir, forgotten, OutcomeKind.USAGE, "completion")


async def test_a_decision_that_it_was_not_asked_for_is_known_from_its_first_report(
    router: Child, state_dir: Path
) -> None:
    made_elsewhere = new_id("default")
    async with AsyncRouterClient(router.address) as client:
        assert (await client.record_outcome(usage(made_elsewhere, policy_version=EXPLICIT_POLICY))).recorded
        verdict = router_pb2.RecordOutcomeRequest(
            decision_id=made_elsewhere, kind=VERDICT, source="client", verdict=router_pb2.VERDICT_BAD
        )
        assert (await client.record_outcome(verdict)).recorded
    for kind, source in ((OutcomeKind.USAGE, "completion"), (OutcomeKind.VERDICT, "client")):
        decision = (await stored(state_dir, made_elsewhere, kind, source))["decision"]
        assert decision == {
            "policy_version": "explicit/1",
            "complexity": "",
            "model": "offline-small",
            "confidence": 1.0,
        }


async def test_a_decision_that_it_was_not_asked_for_is_counted_once(tmp_path: Path) -> None:
    child = Child("router", tmp_path, ANTIPHON_METRICS_LISTEN="127.0.0.1:0").serving()
    try:
        decision = new_id("default")
        reports = [usage(decision, policy_version=EXPLICIT_POLICY) for _ in range(3)]
        reports[1].source, reports[2].model = "completion.1", "made up"
        reports.append(usage(new_id("default"), policy_version=EXPLICIT_POLICY))
        reports[3].model = "made up"
        async with AsyncRouterClient(child.address) as client:
            await client.batch_record_outcomes(router_pb2.BatchRecordOutcomesRequest(reports=reports))
        url = f"http://{json.loads(child.run_file.read_text())['metrics']}/metrics"
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=GUARD_S).read().decode())
    finally:
        assert child.end() == 0
    counted = [line for line in page.splitlines() if line.startswith("antiphon_router_decisions_total{")]
    assert counted == [
        'antiphon_router_decisions_total{complexity="none",model="offline-small",policy="explicit/1"} 1.0',
        'antiphon_router_decisions_total{complexity="none",model="other",policy="explicit/1"} 1.0',
    ]


@pytest.mark.parametrize(
    "decision_id", ["never-decided", "0" * 48, new_id("another")], ids=["odd", "made up", "another's"]
)
async def test_a_decision_of_nobody_or_of_another_tenant_is_not_found(router: Child, decision_id: str) -> None:
    async with AsyncRouterClient(router.address) as client:
        with pytest.raises(AntiphonError) as failed:
            await client.record_outcome(usage(decision_id))
    assert (failed.value.code.name, failed.value.reason) == ("NOT_FOUND", "DECISION_NOT_FOUND")
    assert str(decision_id) not in failed.value.message


async def test_many_reports_at_once_are_taken_each_by_itself(router: Child, state_dir: Path) -> None:
    mine, foreign = new_id("default"), new_id("another")
    wrong = usage(mine)
    wrong.model = ""
    async with AsyncRouterClient(router.address) as client:
        batch = router_pb2.BatchRecordOutcomesRequest(reports=[usage(mine), usage(foreign), wrong, usage(mine)])
        first, stranger, bad, again = (await client.batch_record_outcomes(batch)).results
        assert first.response.recorded
        assert from_status(stranger.error).reason == "DECISION_NOT_FOUND"
        assert list(from_status(bad.error).fields) == ["model"]
        assert again.HasField("response")
        assert not again.response.recorded
        for count in (0, 257):
            with pytest.raises(AntiphonError) as failed:
                await client.batch_record_outcomes(router_pb2.BatchRecordOutcomesRequest(reports=[usage(mine)] * count))
            assert list(failed.value.fields) == ["reports"]
    assert (await stored(state_dir, mine, OutcomeKind.USAGE, "completion"))["decision_id"] == mine


async def test_after_a_restart_the_first_report_stays(state_dir: Path, store: Child) -> None:
    restarted = new_id("default")
    for cost in (1, 2):
        child = Child("router", state_dir).serving()
        async with AsyncRouterClient(child.address) as client:
            report = usage(restarted, cost=llm_pb2.Cost(nano_usd=cost))
            assert (await client.record_outcome(report)).recorded
        # The queue is written on the way out, although its delay has not passed.
        assert child.end() == 0
    payload = await stored(state_dir, restarted, OutcomeKind.USAGE, "completion")
    assert payload["cost"] == {"nano_usd": 1, "price_version": ""}


async def test_without_a_store_everything_is_answered_and_written_later(tmp_path: Path) -> None:
    child = Child("router", tmp_path, ANTIPHON_ROUTER_OUTCOME_DELAY="0.01").serving()
    store = None
    early, between = new_id("default"), new_id("default")
    try:
        async with AsyncRouterClient(child.address) as client:
            assert (await client.route(asked(EASY))).candidates
            assert (await client.record_outcome(usage(early))).recorded
            store = Child("edgestore", tmp_path).serving()
            await stored(tmp_path, early, OutcomeKind.USAGE, "completion")
            # Another store process has another port: the router finds it again.
            store.end(signal.SIGKILL)
            assert (await client.record_outcome(usage(between))).recorded
            store = Child("edgestore", tmp_path).serving()
            await stored(tmp_path, between, OutcomeKind.USAGE, "completion")
        assert child.end() == 0
    finally:
        child.end(signal.SIGKILL)
        if store is not None:
            store.end()


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"ANTIPHON_ROUTER_POLICY": "hunter2"}, "ANTIPHON_ROUTER_POLICY"),
        ({"ANTIPHON_ROUTER_POLICE": "hunter2"}, "ANTIPHON_ROUTER_POLICE"),
        ({"ANTIPHON_CATALOGUE": "/nowhere/hunter.toml"}, "ANTIPHON_CATALOGUE"),
        ({"OPENAI_BASE_URL": "ftp://hunter2"}, "upstreams.openai.base_url_env"),
        (
            {"ANTIPHON_QDRANT_URL": "http://h:6334", "ANTIPHON_QDRANT_API_KEY_FILE": "/nowhere/key"},
            "ANTIPHON_QDRANT_API_KEY_FILE",
        ),
        ({"ANTIPHON_ROUTER_LISTEN": "203.0.113.1:1"}, "ANTIPHON_ROUTER_LISTEN"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_78(tmp_path: Path, environ: dict[str, str], told: str) -> None:
    child = Child("router", tmp_path, **environ)
    text = child.stderr()
    assert child.process.returncode == 78, text
    assert told in text
    assert "hunter2" not in text
