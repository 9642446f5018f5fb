"""Embeddings of many texts by the project's own embedder, kept in a scratch folder between runs."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.embedding.encoder_folder import open_minilm
from services.embedding.minilm import default_model_dir
from services.embedding.settings import EmbeddingSettings

BATCH = 32
SAVED_EVERY = 4_000
"""Texts after which the vectors are written, so that a run that was ended goes on."""


class Vectors:
    """Rows by text. The scratch folder belongs to one embedder; another needs another folder."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._place: dict[str, int] = {}
        self._rows = np.empty((0, 0), np.float32)
        self.identity = ""
        self._load()

    def _load(self) -> None:
        names = self._scratch / "texts.json"
        if names.exists():
            texts = json.loads(names.read_text("utf-8"))
            self._rows = np.load(self._scratch / "text.npy")
            self._place = {text: at for at, text in enumerate(texts)}

    def _save(self) -> None:
        self._scratch.mkdir(parents=True, exist_ok=True)
        np.save(self._scratch / "text.npy", self._rows)
        (self._scratch / "texts.json").write_text(json.dumps(list(self._place)), "utf-8")

    async def add(self, texts: Iterable[str]) -> None:
        """Embed what is not there yet."""
        embedder = open_minilm(default_model_dir(os.environ), EmbeddingSettings())
        self.identity = embedder.identity.slug
        missing = sorted(dict.fromkeys(text for text in texts if text not in self._place), key=len)
        try:
            for start in range(0, len(missing), SAVED_EVERY):
                part = missing[start : start + SAVED_EVERY]
                rows = []
                for at in range(0, len(part), BATCH):
                    embedded = await embedder.embed(part[at : at + BATCH])
                    rows.append(np.asarray(embedded.vectors, np.float32))
                known = [self._rows] if len(self._rows) else []
                self._rows = np.concatenate([*known, *rows])
                for text in part:
                    self._place[text] = len(self._place)
                self._save()
                sys.stderr.write(f"embedded {start + len(part)} of {len(missing)}\n")
        finally:
            await embedder.aclose()

    def of(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """The unit vectors of some texts, (n, dim)."""
        rows = self._rows[[self._place[text] for text in texts]]
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def embedded(scratch: Path, texts: Iterable[str]) -> Vectors:
    """Open the scratch folder and embed what it lacks."""
    vectors = Vectors(scratch)
    asyncio.run(vectors.add(texts))
    return vectors
