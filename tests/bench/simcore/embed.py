"""Embed the texts of the bench into a file; runs in the project's own environment, which has the embedder.

python -m tests.bench.simcore.embed OUT [--texts FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import AntiphonError
from services.embedding.create import create
from services.embedding.protocol import Embedder
from services.embedding.settings import EmbeddingSettings
from tests.bench.simcore import sentences

STORED, QUERIES = 50_000, 1000
SEED = 6
CALL = 500
"""Texts per call: enough that texts of like length share a pass."""


async def _embed(embedder: Embedder, texts: list[str]) -> NDArray[np.float32]:
    rows = np.empty((len(texts), embedder.identity.dim), np.float32)
    for start in range(0, len(texts), CALL):
        rows[start : start + CALL] = (await embedder.embed(texts[start : start + CALL])).vectors
        print(f"\rembedded {min(start + CALL, len(texts)):,} of {len(texts):,} texts", end="", file=sys.stderr)
    print(file=sys.stderr)
    return rows


async def _write(out: Path, texts: sentences.Texts) -> None:
    embedder = create(EmbeddingSettings(embedder="minilm"))
    try:
        rows = await _embed(embedder, texts.stored)
        queries = await _embed(embedder, texts.queries)
    finally:
        await embedder.aclose()
    # Whole or not at all: what is there is taken for complete.
    unfinished = out.with_suffix(".part.npz")
    np.savez(unfinished, rows=rows, queries=queries, kind=np.array(texts.kind), embedder=embedder.identity.slug)
    unfinished.replace(out)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--texts", type=Path, help="one text a line, or JSON lines with `text`; else docstrings")
    args = parser.parse_args()
    if args.texts:
        texts = sentences.sample(sentences.of_file(args.texts))
    else:
        print("collecting sentences of docstrings …", file=sys.stderr)
        texts = sentences.sample(sentences.of_folders(sentences.roots()), STORED + QUERIES // 2)
    try:
        asyncio.run(_write(args.out, sentences.split(texts, QUERIES, SEED)))
    except (AntiphonError, ValueError) as error:
        sys.exit(f"no texts were embedded: {error}")


if __name__ == "__main__":
    main()
