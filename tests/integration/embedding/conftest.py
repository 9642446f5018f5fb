"""The real weights, as make's set-up puts them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.embedding import Embedder, EmbeddingSettings, create, minilm


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """Where the weights are; a test that needs them fails without."""
    configured = os.environ.get("ANTIPHON_MODEL_DIR")
    found = Path(configured) if configured else minilm.default_model_dir(os.environ)
    if not minilm.folder(found).is_dir():
        pytest.fail(f"these tests need the weights in {found}: run `antiphon model get` (make does)", pytrace=False)
    return found


@pytest.fixture
async def embedder(model_dir: Path) -> AsyncIterator[Embedder]:
    """A warm `minilm`."""
    made = create(EmbeddingSettings(model_dir=model_dir))
    await made.warm()
    yield made
    await made.aclose()
