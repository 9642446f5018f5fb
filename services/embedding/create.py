"""From settings to the embedder that they name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from services.embedding.batching import BatchLimits, MicroBatcher
from services.embedding.minilm import default_model_dir
from services.embedding.protocol import Embedder
from services.embedding.settings import EmbeddingSettings


def create(settings: EmbeddingSettings, *, environ: Mapping[str, str] = os.environ) -> Embedder:
    """The configured embedder; what it needs and lacks is `FailedPrecondition`, which says what to do.

    Reads weights from the disk (0.3 s for minilm): call it before serving, in a thread if a loop runs. `environ` gives
    the remote API's key and URL, and the user's cache folder; nothing is ever downloaded.
    """
    # Only the configured one is imported: onnxruntime and the openai SDK cost about 0.5 s and 50 MB each.
    if settings.embedder == "openai":
        from services.embedding.openai_compatible import open_remote  # noqa: PLC0415

        return open_remote(settings, environ=environ)

    from services.embedding.encoder_folder import open_folder, open_minilm  # noqa: PLC0415

    if settings.embedder == "minilm":
        return open_minilm(settings.model_dir or default_model_dir(environ), settings)
    return open_folder(Path(settings.embedder).expanduser(), settings)


def create_batcher(settings: EmbeddingSettings, *, environ: Mapping[str, str] = os.environ) -> MicroBatcher:
    """The configured embedder behind a `MicroBatcher` with the settings' limits; fails as `create` does."""
    limits = BatchLimits(
        size=settings.batch_size,
        characters=settings.batch_characters,
        delay=settings.batch_delay,
        batches=settings.max_batches,
        waiting=settings.max_waiting,
    )
    return MicroBatcher(create(settings, environ=environ), limits)
