"""Fits the weights of the answer comparer on the pairs beside this file; see `services.cache.comparing`."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.cache.comparing import SAME, WEIGHTS, contradicts, features, logit, plain
from services.cache.judges import VerifiedJudge
from services.cache.learning.labels import ComparerError
from services.embedding import create_batcher
from services.embedding.settings import EmbeddingSettings

PAIRS = Path(__file__).with_name("answers.jsonl")
FOLDS = 10
RIDGE = 1.0
ROUNDS = 60


@dataclass(frozen=True)
class Pair:
    """Two answers; `agree`: they say the same. Pairs of one `group` are about one question and those near to it."""

    group: int
    agree: bool
    of: dict[str, float]
    """Features."""
    opposed: bool
    """Whether they contradict each other, whatever the weights say."""

    def said_same(self, weights: Mapping[str, float] = WEIGHTS) -> bool:
        """What the comparer says with these weights."""
        return not self.opposed and logit(self.of, weights) >= SAME


def judge() -> VerifiedJudge:
    """The packaged verifier."""
    fitted = resources.files("services.cache").joinpath("verifier", "minilm.json").read_text(encoding="utf-8")
    return VerifiedJudge(fitted, "default")


def texts() -> list[tuple[int, bool, str, str]]:
    """Group, whether they agree, and both answers: all pairs of a question's own, and of those with its others."""
    found = []
    for group, line in enumerate(PAIRS.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        found += [(group, True, a, b) for a, b in itertools.combinations(row["same"], 2)]
        found += [(group, False, a, b) for a, b in itertools.product(row["same"], row["other"])]
    return found


async def pairs() -> list[Pair]:
    """All pairs with their features, embedded by the packaged model."""
    known = texts()
    embedder = await asyncio.to_thread(create_batcher, EmbeddingSettings())
    try:
        answers = sorted({plain(text) for _, _, *both in known for text in both})
        embedded = await asyncio.gather(*(embedder.embed_one(answer) for answer in answers))
    finally:
        await embedder.aclose()
    vectors = {answer: vector for answer, (vector, _) in zip(answers, embedded, strict=True)}
    verifier = judge()
    made = []
    for group, agree, *both in known:
        a, b = map(plain, both)
        cosine = float(vectors[a] @ vectors[b])
        (verdict,) = verifier.judge(a, [b], [cosine])
        of = features(a, b, cosine, verdict)
        made.append(Pair(group, agree, of, contradicts(a, b, of)))
    return made


def fitted(known: list[Pair]) -> dict[str, float]:
    """Weights of a ridge logistic regression, both kinds of pairs weighing the same; by Newton's method."""
    names = [name for name in WEIGHTS if name != "bias"]
    rows = np.array([[1.0, *(pair.of[name] for name in names)] for pair in known])
    truth = np.array([float(pair.agree) for pair in known])
    weight = np.where(truth == 1, (truth == 0).sum() / truth.sum(), 1.0)
    ridge = np.diag([1e-6, *[RIDGE] * len(names)])
    found: NDArray[np.float64] = np.zeros(len(names) + 1)
    for _ in range(ROUNDS):
        p = 1 / (1 + np.exp(-rows @ found))
        slope = rows.T @ (weight * (truth - p)) - ridge @ found
        found += np.linalg.solve((rows * (weight * p * (1 - p))[:, None]).T @ rows + ridge, slope)
    return dict(zip(["bias", *names], map(float, found), strict=True))


def out_of_fold(known: list[Pair]) -> ComparerError:
    """The error on pairs of questions that a fit has not seen."""
    error = ComparerError()
    for fold in range(FOLDS):
        weights = fitted([pair for pair in known if pair.group % FOLDS != fold])
        for pair in known:
            if pair.group % FOLDS == fold:
                error = error.counted(agree=pair.agree, said_same=pair.said_same(weights))
    return error


if __name__ == "__main__":
    every = asyncio.run(pairs())
    print({name: round(value, 2) for name, value in fitted(every).items()})
    print(out_of_fold(every))
