"""Texts whose vectors say too little are told apart from those that may share an answer."""

from __future__ import annotations

import pytest

from services.embedding import EmbeddingSettings, create


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How do I reset my password?", True),
        ("Wie setze ich mein Passwort zurück?", True),
        ("Is 😀 rude?", False),  # every emoji is the same unknown piece
        ("x" * 101, False),  # so is a word of more than 100 characters
        ("word " * 254, True),
        ("word " * 255, True),  # a second window
        ("word " * 254 * 20, True),
        ("word " * 254 * 20 + "word", False),  # more windows than are read
        ("word " * 255 + "😀", False),
        ("a" * 100_000, False),
    ],
)
async def test_the_default_encoder_knows_what_it_cannot_tell_apart(text: str, expected: bool) -> None:
    embedder = create(EmbeddingSettings())
    try:
        assert embedder.comparable(text) is expected
    finally:
        await embedder.aclose()
