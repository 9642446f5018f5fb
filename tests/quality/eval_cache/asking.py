"""Streams and pairs through the services, and what came of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AsyncCacheClient
from tests.quality.eval_cache.material import Material, Preset
from tools.decision.sets import Pairs, Stream

AT_ONCE = 24
"""Pairs that are asked at the same time."""

SECONDS = 900.0
TRIES = 20
"""Of a lookup that the service bypasses, since the machine has more to do than it can."""

SERVED = frozenset({pb.OUTCOME_EXACT, pb.OUTCOME_SEMANTIC})
Clients = Mapping[str, AsyncCacheClient]


@dataclass
class Counts:
    """What a cache did with lookups of which `available` had a right answer stored."""

    lookups: int = 0
    available: int = 0
    hits: int = 0
    wrong: int = 0

    def add(self, *, available: bool, hit: bool, right: bool) -> None:
        """Count one lookup."""
        self.lookups += 1
        self.available += available
        self.hits += hit
        self.wrong += hit and not right

    def shares(self) -> dict[str, float]:
        """`hit`, `wrong` (of the hits), `err` (of the lookups) and `recall`, in per cent."""
        right = self.hits - self.wrong
        return {
            "hit": percent(self.hits, self.lookups),
            "wrong": percent(self.wrong, self.hits),
            "err": percent(self.wrong, self.lookups),
            "recall": percent(right, self.available),
        }


@dataclass
class PairCounts:
    """What a cache served of pairs that may share an answer and of traps."""

    right: Counter[bool] = field(default_factory=Counter)
    traps: Counter[bool] = field(default_factory=Counter)

    def add(self, *, label: bool, served: bool) -> None:
        """Count one pair."""
        (self.right if label else self.traps)[served] += 1

    def shares(self) -> dict[str, float]:
        """`recall` and `trap`, in per cent."""
        return {
            "recall": percent(self.right[True], self.right.total()),
            "trap": percent(self.traps[True], self.traps.total()),
        }


@dataclass(frozen=True)
class Stated:
    """A semantic hit: how likely the service said it is wrong, and whether it is."""

    p_wrong: float
    wrong: bool


def percent(part: float, whole: float) -> float:
    """A share in per cent; 0 of nothing."""
    return 100.0 * part / whole if whole else 0.0


async def stream(
    clients: Clients, material: Material, one: Stream, name: str, max_error_rate: float
) -> tuple[Counts, list[Stated]]:
    """Look up in the order of arrival, and store on a miss. The answer that is stored names the class."""
    counts, stated = Counts(), []
    policy = pb.CachePolicy(mode=pb.CACHE_MODE_ONLY_IF_CACHED, max_error_rate=max_error_rate)
    stored: set[str] = set()
    for text, cls in zip(one.text, one.cls, strict=True):
        query = _query(name, text)
        found = await _lookup(clients[material.judge(text)], query, policy)
        hit = found.outcome in SERVED
        right = hit and found.answer.text == cls
        counts.add(available=cls in stored, hit=hit, right=right)
        if found.outcome == pb.OUTCOME_SEMANTIC:
            stated.append(Stated(found.decision.p_wrong, not right))
        if not hit:
            stored.add(cls)
            put = pb.PutRequest(query=query, answer=_answer(cls))
            await asyncio.gather(*(client.put(put, timeout=SECONDS) for client in clients.values()))
    return counts, stated


async def pairs(clients: Clients, material: Material, one: Pairs, presets: Sequence[str]) -> dict[str, PairCounts]:
    """Each pair in a namespace of its own, asked once; the presets differ only in what they ask of the same decision.

    The services run with the loosest preset; that this one serves what the decision says is checked pair by pair.
    """
    counts = {preset: PairCounts() for preset in presets}
    loosest = material.loosest(material.rates())
    policy = pb.CachePolicy(mode=pb.CACHE_MODE_ONLY_IF_CACHED)
    places = asyncio.Semaphore(AT_ONCE)

    async def ask(at: int) -> None:
        judge, namespace = material.judge(one.b[at]), f"{one.name}-{at}"
        client, own = clients[judge], material.presets[judge]
        async with places:
            put = pb.PutRequest(query=_query(namespace, one.a[at]), answer=_answer("!"))
            await client.put(put, timeout=SECONDS)
            found = await _lookup(client, _query(namespace, one.b[at]), policy)
        if passes(found, own[loosest]) != (found.outcome in SERVED):
            raise RuntimeError(f"{one.name}: pair {at} was not served as its decision says")
        for name in presets:
            counts[name].add(label=one.label[at], served=passes(found, own[name]))

    async with asyncio.TaskGroup() as group:
        for start in range(0, len(one.a), AT_ONCE):
            part = [group.create_task(ask(at)) for at in range(start, min(start + AT_ONCE, len(one.a)))]
            await asyncio.wait(part)
    return counts


def passes(found: pb.LookupResponse, preset: Preset) -> bool:
    """Whether a preset would serve the only entry there is, from the decision about it."""
    if found.outcome == pb.OUTCOME_EXACT:
        return True
    decision = found.decision
    if not decision.HasField("score"):
        return False
    return decision.similarity >= preset.cosine and decision.score >= preset.score


async def _lookup(client: AsyncCacheClient, query: pb.Query, policy: pb.CachePolicy) -> pb.LookupResponse:
    for _ in range(TRIES):
        found = await client.lookup(pb.LookupRequest(query=query, policy=policy), timeout=SECONDS)
        if found.outcome != pb.OUTCOME_BYPASS:
            return found
    raise RuntimeError(f"the cache was bypassed {TRIES} times: {pb.BypassReason.Name(found.bypass_reason)}")


def _query(namespace: str, text: str) -> pb.Query:
    message = llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=text)])
    return pb.Query(namespace=namespace, messages=[message])


def _answer(text: str) -> llm_pb2.Answer:
    return llm_pb2.Answer(text=text, finish_reason=llm_pb2.FINISH_REASON_STOP, model="small")
