"""minilm's vectors are those of the published model, alone and in any company."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.embedding import Embedder, minilm, onnx_encoder
from tests.integration.embedding.reference import Reference

SEED = 3
LENGTHS = [1, 2, 3, *range(4, 37), 64, 100, 128, 129, 180, 200, 253, 254, 255, 256, 300, 420, 509, 600]
"""Pieces of the 50 texts: mostly short, and both sides of every border (128 is the shipped tokenizer's cut)."""
WORDS = "what is the best way to find a good answer , why does my old red car not start ? naïve 東 京 7"
"""Each is one piece."""

AGAINST_REFERENCE = 1e-4
ALONE_AGAINST_BATCHED = 1e-5

KNOWN = [0.006903, -0.063023, -0.072044, -0.032496, -0.042709, 0.070429, 0.009074, 0.015408]
"""The beginning of the first one's vector below, computed once in float64 from the published `model.safetensors`."""

PASSWORD = ("How do I reset my password?", "How can I reset my password?")


@pytest.fixture(scope="module")
def reference(model_dir: Path) -> Reference:
    return Reference(minilm.folder(model_dir))


@pytest.fixture(scope="module")
def texts(reference: Reference) -> list[str]:
    """Texts of exactly `LENGTHS` pieces."""
    generator = random.Random(SEED)
    made = [" ".join(generator.choice(WORDS.split()) for _ in range(length)) for length in LENGTHS]
    assert [len(reference.ids(text)) for text in made] == LENGTHS
    return made


@pytest.fixture(scope="module")
def expected(reference: Reference, texts: list[str]) -> NDArray[np.float64]:
    return np.stack([reference.embed(text) for text in texts])


async def test_fifty_texts_alone_and_in_mixed_batches(
    embedder: Embedder, texts: list[str], expected: NDArray[np.float64]
) -> None:
    assert len(texts) == 50
    alone = np.concatenate([(await embedder.embed([text])).vectors for text in texts])
    assert np.abs(alone - expected).max() <= AGAINST_REFERENCE

    generator = random.Random(SEED)
    for size in (7, 50):
        order = generator.sample(range(len(texts)), len(texts))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            batch = await embedder.embed([texts[index] for index in chosen])
            assert np.abs(batch.vectors - expected[chosen]).max() <= AGAINST_REFERENCE
            assert np.abs(batch.vectors - alone[chosen]).max() <= ALONE_AGAINST_BATCHED
            assert batch.tokens_per_text == tuple(LENGTHS[index] for index in chosen)


async def test_known_answer(embedder: Embedder) -> None:
    vectors = (await embedder.embed(list(PASSWORD))).vectors
    np.testing.assert_allclose(vectors[0][: len(KNOWN)], KNOWN, atol=1e-5)
    assert float(vectors[0] @ vectors[1]) == pytest.approx(0.99168, abs=1e-4)
    assert float(vectors[0] @ vectors[1]) > embedder.default_min_similarity


async def test_the_question_at_the_end_of_a_long_prompt_counts_more_than_the_material(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = "The harbour was built in the nineteenth century and rebuilt twice after storms. " * 60
    questions = ("who paid for the lighthouse?", "who paid for the light house?", "how many ships came in 1907?")

    async def gap() -> float:
        """How much nearer the same question is than another one."""
        one, same, other = (await embedder.embed([f"{material}Question: {text}" for text in questions])).vectors
        return float(one @ same - one @ other)

    with_edges = await gap()

    def body_alone(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        mean = rows[:-2].mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    monkeypatch.setattr(onnx_encoder, "combine", body_alone)
    assert with_edges > 3 * await gap() > 0


async def test_an_empty_batch_costs_nothing(embedder: Embedder) -> None:
    embedded = await embedder.embed([])
    assert embedded.vectors.shape == (0, 384)
    assert embedded.tokens == 0
