"""The cache's own process with an embedder that remembers; EVAL_CACHE_SCRATCH names the folder of vectors."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

from services.cache import main as cache
from services.cache.settings import SERVICE, CacheSettings
from services.chassis.process import run
from services.embedding import Embedder, EmbeddingSettings, create
from tests.quality.eval_cache.remembering import RememberingEmbedder

VARIABLE = "EVAL_CACHE_SCRATCH"


def remembering(settings: EmbeddingSettings, *, environ: Mapping[str, str] = os.environ) -> Embedder:
    """What `services.embedding.create` makes, with a memory."""
    return RememberingEmbedder(create(settings, environ=environ), Path(os.environ[VARIABLE]))


if __name__ == "__main__":
    with patch.object(import_module("services.embedding.create"), "create", remembering):
        sys.exit(run(cache.main, CacheSettings, SERVICE))
