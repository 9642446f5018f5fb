"""Kills of the cache and of its store in the middle of what they do, and what must be true afterwards.

A client puts, fills, imports, deletes and clears over gRPC and notes what was acknowledged, while the embedder is
changed to and fro. At a moment that the seed chooses the victim gets SIGKILL; both processes are brought back, and
everything that was noted is looked up.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon.cache.v1 import reembedding_pb2 as reembedding
from antiphon.cache.v1 import transfer_pb2 as transfer
from antiphon.llm.v1 import llm_pb2 as llm
from antiphon_client import AntiphonError, AsyncCacheClient
from antiphon_client.errors import FailedPreconditionError, InvalidArgumentError
from services.cache.scope import VERSION, Addresses
from services.cache.values import Query
from services.llm.values import Message, Role, TextPart
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.cache.cache_process import CacheProcess
from tests.integration.cache.transfer import requests
from tests.integration.edgestore.store_process import StoreProcess

WORKERS = 4
QUESTIONS = 40
"""In each namespace."""

NAMESPACES = 3
LONGEST_SECONDS = 0.6
"""From the beginning of a round to its kill, at most."""

CALL_SECONDS = 3.0

IMPORTED = 6
"""Lines of one import."""

KILLS_OF_A_CHANGE = 4
CHANGE_SECONDS = 60.0
"""A guard: a lease of one that was killed has to end, and all to be embedded."""

REMOTE = reembedding.EmbedderChoice(embedder="openai", model="text-embedding-3-small", dim=48)
"""The other embedder."""


_PLAIN = Query((Message(Role.USER, (TextPart("plain"),)),))
PLAIN = Addresses(bytes(32), embedder="any", longest=1_000).of("any", _PLAIN).origin.digest
"""Of what stands before a question when there is nothing; the same under every key."""


class Broken(AssertionError):
    """A promise that was not kept; the text names seed and round."""


@dataclass(slots=True)
class Slot:
    """What is known of one question. `sure`: what was acknowledged last; `maybe`: what was tried since."""

    sure: str | None = None
    maybe: list[str | None] = field(default_factory=list)
    busy: bool = False
    history: deque[str] = field(default_factory=lambda: deque(maxlen=16))

    def allows(self, text: str | None) -> bool:
        return text == self.sure or text in self.maybe

    def tried(self, text: str | None, how: str) -> None:
        self.maybe.append(text)
        self.history.append(f"{how} {text}")

    def settled(self, text: str | None, how: str) -> None:
        self.sure, self.maybe = text, []
        self.history.append(f"{how} {text}")


@dataclass(slots=True)
class Result:
    """What a campaign found."""

    kills: int = 0
    acknowledged: int = 0
    checked: int = 0
    clears: int = 0
    imported: int = 0
    embedders: int = 0
    """Changes of the embedder that came to their end."""
    serving: list[float] = field(default_factory=list)
    """Seconds from the start of the processes to SERVING."""


class Durability:
    """One campaign on one state folder."""

    def __init__(self, folder: Path, seed: int, remote: FakeOpenAI) -> None:
        """`remote` serves the other embedder."""
        self._seed = seed
        self._chance = random.Random(seed)
        self._store = StoreProcess(folder / "state")
        self._cache: CacheProcess | None = None
        self._slots = [[Slot() for _ in range(QUESTIONS)] for _ in range(NAMESPACES)]
        self._barred = [asyncio.Lock() for _ in range(NAMESPACES)]
        """A clear and a write at the same time have no order that could be checked."""
        self._unsure: set[int] = set()
        """Namespaces of which a clear was tried and not acknowledged."""
        self._texts = 0
        self._remote = remote
        self._unchanged = 0
        self._changes: set[int] = set()
        """Starts of the changes of the embedder that came to their end."""
        self.result = Result()

    async def run(self, kills: int) -> Result:
        """Kill so often, and check after each."""
        try:
            await asyncio.to_thread(self._start)
            for round_ in range(kills):
                await self._round(round_)
        finally:
            self._end()
            self._store.close()
        return self.result

    async def _round(self, round_: int) -> None:
        assert self._cache is not None
        victim = self._chance.choice(("cache", "store", "both"))
        moment = self._chance.uniform(0.02, LONGEST_SECONDS)
        stop = asyncio.Event()
        async with AsyncCacheClient(self._cache.address) as client:
            workers = [asyncio.create_task(self._work(client, stop)) for _ in range(WORKERS)]
            await asyncio.sleep(moment)
            if victim in {"cache", "both"}:
                self._cache.process.kill()
            if victim in {"store", "both"}:
                self._store.kill()
            self.result.kills += 1
            if victim == "store" and self._chance.random() < 0.5:
                await asyncio.sleep(0.1)  # deletes and clears that only the disk hears of
            stop.set()
            if victim != "store":  # nobody will answer
                for worker in workers:
                    worker.cancel()
            await asyncio.gather(*workers, return_exceptions=victim != "store")
        # What is served now is read from the store, and from what waited for it on disk.
        await asyncio.to_thread(self._end)
        began = time.monotonic()
        await asyncio.to_thread(self._start)
        self.result.serving.append(time.monotonic() - began)
        await self._check(round_, victim)

    def _end(self) -> None:
        if self._cache is not None:
            self._cache.process.kill()
            self._cache.ended()

    def _start(self) -> None:
        if self._store._process is None or self._store._process.poll() is not None:
            self._store.start()
        self._cache = CacheProcess(
            self._store.state_dir,
            ANTIPHON_CACHE_MIN_SIMILARITY="1",
            ANTIPHON_CACHE_DECISION_BUDGET="5",
            ANTIPHON_CACHE_STORE_TIMEOUT="5",
            ANTIPHON_EMBEDDING_OPENAI_BASE_URL=self._remote.base_url,
            OPENAI_API_KEY="k",
        ).serving()

    async def _work(self, client: AsyncCacheClient, stop: asyncio.Event) -> None:
        while not stop.is_set():
            number = self._chance.randrange(NAMESPACES)
            act = self._chance.choices(ACTS, SHARES)[0]
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    await act(self, client, number)
            except (AntiphonError, TimeoutError):
                await asyncio.sleep(0.01)

    def _open(self, number: int) -> bool:
        return not self._barred[number].locked() and number not in self._unsure

    def _slot(self, number: int) -> tuple[int, Slot] | None:
        free = [place for place, slot in enumerate(self._slots[number]) if not slot.busy]
        if not free or not self._open(number):
            return None
        place = self._chance.choice(free)
        return place, self._slots[number][place]

    async def _on_slot(self, number: int, act: Callable[[int, Slot], object]) -> None:
        found = self._slot(number)
        if found is None:
            await asyncio.sleep(0)
            return
        place, slot = found
        # What was not acknowledged may still happen, later than what is tried next: leave it alone until the check.
        slot.busy = True
        await act(place, slot)  # type: ignore[misc]
        slot.busy = False

    async def _put(self, client: AsyncCacheClient, number: int) -> None:
        async def put(place: int, slot: Slot) -> None:
            text = self._text()
            slot.tried(text, "put")
            request = pb.PutRequest(query=query(number, place), answer=answer(text), durable=True)
            await client.put(request, timeout=CALL_SECONDS)
            slot.settled(text, "acknowledged")
            self.result.acknowledged += 1

        await self._on_slot(number, put)

    async def _fill(self, client: AsyncCacheClient, number: int) -> None:
        async def fill(place: int, slot: Slot) -> None:
            looked = pb.LookupRequest(query=query(number, place), policy=pb.CachePolicy(mode=pb.CACHE_MODE_REFRESH))
            found = await client.lookup(looked, timeout=CALL_SECONDS)
            if not found.fill.HasField("granted"):
                return
            text = self._text()
            slot.tried(text, "commit")
            request = pb.CommitRequest(lease_id=found.fill.granted.id, answer=answer(text), durable=True)
            done = await client.commit(request, timeout=CALL_SECONDS)
            if done.stored and done.durable:
                slot.settled(text, "acknowledged")
                self.result.acknowledged += 1

        await self._on_slot(number, fill)

    async def _import(self, client: AsyncCacheClient, number: int) -> None:
        """Some lines at once; each is acknowledged with the whole."""
        free = [place for place, slot in enumerate(self._slots[number]) if not slot.busy]
        if not self._open(number) or not free:
            await asyncio.sleep(0)
            return
        chosen = {place: self._text() for place in self._chance.sample(free, min(len(free), IMPORTED))}
        for place, text in chosen.items():
            self._slots[number][place].busy = True
            self._slots[number][place].tried(text, "import")
        entries = [portable(number, place, text) for place, text in chosen.items()]
        done = await client.import_(requests(entries), timeout=CALL_SECONDS)
        assert done.stored == len(entries), done
        for place, text in chosen.items():
            self._slots[number][place].settled(text, "acknowledged")
            self._slots[number][place].busy = False
        self.result.acknowledged += len(entries)
        self.result.imported += len(entries)

    async def _delete(self, client: AsyncCacheClient, number: int) -> None:
        async def delete(place: int, slot: Slot) -> None:
            found = await client.lookup(only(number, place), timeout=CALL_SECONDS)
            if not found.entry_id:
                return
            slot.tried(None, "delete")
            request = pb.DeleteRequest(namespace=name(number), entry_ids=pb.EntryIds(ids=[found.entry_id]))
            await client.delete(request, timeout=CALL_SECONDS)
            slot.settled(None, "acknowledged")
            self.result.acknowledged += 1

        await self._on_slot(number, delete)

    async def _clear(self, client: AsyncCacheClient, number: int) -> None:
        if not self._open(number) or any(slot.busy for slot in self._slots[number]):
            await asyncio.sleep(0)
            return
        async with self._barred[number]:
            for slot in self._slots[number]:
                slot.tried(None, "clear")
            self._unsure.add(number)
            await client.clear(pb.ClearRequest(namespace=name(number)), timeout=CALL_SECONDS)
            for slot in self._slots[number]:
                slot.settled(None, "acknowledged")
            self._unsure.discard(number)
            self.result.acknowledged += 1
            self.result.clears += 1

    async def _check(self, round_: int, victim: str) -> None:
        assert self._cache is not None
        async with AsyncCacheClient(self._cache.address) as client:
            await self._check_change(client)
            for number, slots in enumerate(self._slots):
                found = await client.batch_lookup(
                    pb.BatchLookupRequest(lookups=[only(number, place) for place in range(QUESTIONS)]), timeout=60
                )
                texts = [one.response.answer.text or None for one in found.results]
                for place, (slot, text) in enumerate(zip(slots, texts, strict=True)):
                    self.result.checked += 1
                    if not slot.allows(text):
                        raise Broken(
                            f"seed {self._seed}, round {round_} ({victim}): {name(number)}/{place} has {text!r}, "
                            f"acknowledged was {slot.sure!r}, tried {slot.maybe!r}; before: {list(slot.history)}"
                        )
                self._check_clear(round_, number, texts)
                self._unsure.discard(number)
                for slot, text in zip(slots, texts, strict=True):
                    slot.busy = False
                    slot.settled(text, f"{round_}: {victim} killed, found")

    async def _check_change(self, client: AsyncCacheClient) -> None:
        """See whether a change of the embedder has ended, and begin another.

        One that was killed a few times is let come to its end.
        """
        asked = reembedding.GetReembeddingRequest()
        found = await client.get_reembedding(asked)
        change = found.reembedding
        self._unchanged = self._unchanged + 1 if change.phase == reembedding.REEMBEDDING_PHASE_EMBEDDING else 0
        if self._unchanged > KILLS_OF_A_CHANGE:
            async with asyncio.timeout(CHANGE_SECONDS):
                while change.phase == reembedding.REEMBEDDING_PHASE_EMBEDDING:
                    await asyncio.sleep(0.1)
                    change = (await client.get_reembedding(asked)).reembedding
        if change.phase == reembedding.REEMBEDDING_PHASE_SWITCHED:
            self._changes.add(change.start_time.ToMicroseconds())
            self.result.embedders = len(self._changes)
        if change.phase != reembedding.REEMBEDDING_PHASE_EMBEDDING:
            remote = found.serving.startswith("text_embedding")
            to = reembedding.EmbedderChoice(embedder="minilm") if remote else REMOTE
            with suppress(FailedPreconditionError, InvalidArgumentError):  # the last one is not over yet, or just now
                await client.start_reembedding(reembedding.StartReembeddingRequest(to=to, share=0.5))

    def _check_clear(self, round_: int, number: int, texts: list[str | None]) -> None:
        """Of a clear that nobody acknowledged, all or nothing has happened."""
        unsure = [
            (slot, text)
            for slot, text in zip(self._slots[number], texts, strict=True)
            if slot.sure is not None and slot.maybe == [None]
        ]
        clearing = all(None in slot.maybe for slot in self._slots[number])
        if clearing and len({text is None for _, text in unsure}) > 1:
            raise Broken(f"seed {self._seed}, round {round_}: {name(number)} is half cleared")

    def _text(self) -> str:
        self._texts += 1
        return f"answer {self._seed}/{self._texts}"


ACTS = (
    Durability._put,
    Durability._fill,
    Durability._import,
    Durability._delete,
    Durability._clear,
)
SHARES = (10, 6, 3, 4, 1)
"""How often each is done, beside the others."""


def name(number: int) -> str:
    return f"namespace-{number}"


def question(place: int) -> str:
    return f"question number {place}, to be killed for"


def query(number: int, place: int) -> pb.Query:
    message = llm.Message(role=llm.ROLE_USER, parts=[llm.ContentPart(text=question(place))])
    return pb.Query(namespace=name(number), messages=[message])


def only(number: int, place: int) -> pb.LookupRequest:
    policy = pb.CachePolicy(mode=pb.CACHE_MODE_ONLY_IF_CACHED, min_similarity=1.0)
    return pb.LookupRequest(query=query(number, place), policy=policy)


def portable(number: int, place: int, text: str) -> transfer.PortableEntry:
    """An entry that was made now, as an export would have it."""
    now_us = time.time_ns() // 1_000
    entry = transfer.PortableEntry(
        namespace=name(number),
        model="auto",
        question=[question(place)],
        context_digest=PLAIN,
        address_version=VERSION,
        answer=answer(text),
    )
    entry.create_time.FromMicroseconds(now_us)
    entry.expire_time.FromMicroseconds(now_us + 3_600_000_000)
    return entry


def answer(text: str) -> llm.Answer:
    return llm.Answer(text=text, finish_reason=llm.FINISH_REASON_STOP, model="m")
