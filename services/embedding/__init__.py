"""Texts to vectors: the embedder protocol, local and remote embedders behind it, and micro-batching.

`create(settings)` gives the configured embedder, `create_batcher(settings)` the same behind a `MicroBatcher`, which is
what a server uses. Nothing here downloads anything but `services.embedding.obtain`, which only the command line calls.
"""

from services.embedding.batching import MicroBatcher
from services.embedding.create import create, create_batcher
from services.embedding.protocol import Embedded, Embedder, EmbedderIdentity
from services.embedding.settings import EmbeddingSettings

__all__ = ["Embedded", "Embedder", "EmbedderIdentity", "EmbeddingSettings", "MicroBatcher", "create", "create_batcher"]
