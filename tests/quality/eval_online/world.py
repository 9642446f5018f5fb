"""A stream with its truth, and a world that answers each class in one of several phrasings; comparing them errs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.cache.learning.labels import ComparerError

PHRASINGS = 4
FLIPPED = 0.05
"""Of the comparisons; the learner is not told, it only sees the controls."""
CONTROLS = 400
"""Pairs of each kind on which the comparer's error is measured before the run."""

NEAREST = 4
"""Candidates that are judged, as the service does."""

Judge = Callable[[int, Sequence[int], Sequence[float]], list[float]]
"""Scores of stored texts for a question, by their places in the stream."""


@dataclass(frozen=True)
class Stream:
    """Texts by their place: unit vectors, the class of each, and the verdict on a pair."""

    name: str
    vectors: NDArray[np.float32]
    classes: list[str]
    judge: Judge
    _likest: dict[int, NDArray[np.uint16]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse more texts than places can be told apart."""
        if len(self.classes) > 2**16:
            raise ValueError("a stream has at most 65,536 texts")

    def likest(self, place: int) -> NDArray[np.uint16]:
        """All places, that of the most similar text first; sorted once, as every replay asks for it."""
        if place not in self._likest:
            self._likest[place] = np.argsort(-(self.vectors @ self.vectors[place]), kind="stable").astype(np.uint16)
        return self._likest[place]

    def order(self, seed: int) -> list[int]:
        """The places in a random order of arrival."""
        return [int(at) for at in np.random.default_rng(seed).permutation(len(self.classes))]


@dataclass
class World:
    """Answers questions; a comparer that sees only answers says whether two of them mean the same, and errs."""

    stream: Stream
    dice: random.Random
    moved: bool = False
    """After the drift half of each class means something else."""
    flipped: float = FLIPPED
    version: str = "phrasings-1"
    _half: dict[int, bool] = field(default_factory=dict)

    def answer(self, place: int) -> str:
        """The upstream's answer to a question now: what it means, and one of the ways to say it."""
        return f"{self.meaning(place)}\n{self.dice.randrange(PHRASINGS)}"

    def meaning(self, place: int) -> str:
        """The truth."""
        name = self.stream.classes[place]
        if not self.moved:
            return name
        if place not in self._half:
            self._half[place] = self.dice.random() < 0.5
        return f"{name}, anew" if self._half[place] else name

    def same(self, fresh: str, stored: str) -> bool:
        """What the comparer says."""
        agree = fresh.rpartition("\n")[0] == stored.rpartition("\n")[0]
        return agree if self.dice.random() >= self.flipped else not agree

    def controls(self) -> ComparerError:
        """The comparer's error, measured on one question answered twice and on unrelated ones."""
        error = ComparerError()
        places = range(len(self.stream.classes))
        while error.agreeing < CONTROLS:
            at = self.dice.choice(places)
            said = self.same(self.answer(at), self.answer(at))
            error = error.counted(agree=True, said_same=said)
        while error.differing < CONTROLS:
            a, b = self.dice.choice(places), self.dice.choice(places)
            if self.stream.classes[a] != self.stream.classes[b]:
                error = error.counted(agree=False, said_same=self.same(self.answer(a), self.answer(b)))
        return error


@dataclass(frozen=True, slots=True)
class Found:
    """Candidates for a question, most similar first: places in the stream, cosines and scores."""

    places: list[int]
    cosines: list[float]
    scores: list[float]


class Shelf:
    """What is stored: a question's place and its answer."""

    def __init__(self, stream: Stream, lowest: float, *, judged: bool = True) -> None:
        """`lowest`: cosine below which nothing is found; `judged`: whether scores are wanted."""
        self._stream, self._lowest, self._judged = stream, lowest, judged
        self._there = np.zeros(len(stream.classes), np.bool_)
        self.answers: dict[int, str] = {}

    def store(self, place: int, answer: str) -> None:
        """Keep an answer."""
        self._there[place] = True
        self.answers[place] = answer

    def withdraw(self, place: int) -> None:
        """Serve it no more."""
        self._there[place] = False

    def find(self, place: int) -> Found:
        """The nearest that may still be served and are similar enough to be judged."""
        likest = self._stream.likest(place)
        top = likest[self._there[likest]][:NEAREST]
        cosines = self._stream.vectors[top] @ self._stream.vectors[place]
        pairs = zip(top, cosines, strict=True)
        near = [(int(at), min(float(cosine), 1.0)) for at, cosine in pairs if cosine >= self._lowest]
        places, scored = [at for at, _ in near], [cosine for _, cosine in near]
        return Found(places, scored, self._stream.judge(place, places, scored) if places and self._judged else [])
