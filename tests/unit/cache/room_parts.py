"""What the tests of limits are made of: entries with short names, and a memory that remembers who had to go."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from services.cache.entries import Entries
from services.cache.entry import VECTOR_ELEMENT_BYTES, Entry, Source
from services.cache.room import Capacity, Room, Victim
from services.cache.values import Vector
from services.llm.values import Answer, Cost, FinishReason

DIM = 4
VECTOR_BYTES = DIM * VECTOR_ELEMENT_BYTES
FAR_US = 1 << 52


class Memory:
    """Entries with short names; what was evicted is remembered."""

    def __init__(self, executor: ThreadPoolExecutor, capacity: Capacity, seed: int = 1) -> None:
        self.doubts: dict[str, float] = {}
        chance = random.Random(seed).random
        room = Room(capacity, dim=DIM, chance=chance, p_wrong=lambda entry: self.doubts.get(entry.id, 0.0))
        self.entries = Entries(DIM, room=room, threads=1, executor=executor)
        self.gone: list[Victim] = []

    def put(self, name: str, *, tenant: str = "a", namespace: str = "n", now_us: int = 1, **fields: object) -> Entry:
        text = str(fields.pop("text", "answer"))
        nano_usd = int(str(fields.pop("nano_usd", 1_000)))
        entry = Entry(
            id=name,
            tenant=tenant,
            namespace=namespace,
            scope="scope",
            key=name,
            question="question",
            answer=Answer(text, FinishReason.STOP, "small", cost=Cost(nano_usd, "p1")),
            created_us=1,
            updated_us=1,
            expires_us=FAR_US,
            ver=self.entries.next_ver(1),
            epoch=self.entries.epoch(tenant, namespace),
            source=Source.PUT,
        )
        entry = replace(entry, **fields)  # type: ignore[arg-type]
        assert self.entries.put(entry, _vector())
        self.gone += self.entries.pop_surplus(now_us)
        return entry

    def hit(self, name: str, times: int = 1, *, tenant: str = "a", namespace: str = "n") -> None:
        entry = self.entries.find(tenant, namespace, name)
        assert entry is not None
        for _ in range(times):
            self.entries.hit(entry)

    def names(self, tenant: str = "a", namespace: str = "n") -> set[str]:
        bucket = self.entries.bucket(tenant, namespace)
        return set(bucket.entries) if bucket else set()

    @property
    def lost(self) -> list[str]:
        return [victim.entry.id for victim in self.gone]


def _vector() -> Vector:
    return np.full(DIM, 0.5, np.float32)
