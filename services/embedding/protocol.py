"""What the suite expects of an embedder: texts in, unit vectors out, and a name that changes when the vectors would."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MINILM_MIN_SIMILARITY = 0.92
"""Least cosine at which `min_similarity` serves an answer when the embedder is all-MiniLM-L6-v2."""

UNKNOWN_MIN_SIMILARITY = 0.95
"""The same for an encoder about which nothing was measured: stricter."""

_SLUG_NAME_LENGTH = 32
_SLUG_DIGEST_LENGTH = 10


@dataclass(frozen=True, slots=True)
class EmbedderIdentity:
    """Which vectors may be compared with each other: those of equal identities, and no others.

    `revision` stands for everything that decides what a text's vector is: weights, tokenizer, pooling, how long texts
    are cut. `name` is for people.
    """

    name: str
    dim: int
    revision: str

    @property
    def slug(self) -> str:
        """The identity as `[a-z0-9_]+`, fit for a collection's name; different identities have different slugs."""
        words = re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")[:_SLUG_NAME_LENGTH].strip("_")
        whole = "\0".join((self.name, str(self.dim), self.revision))
        digest = hashlib.sha256(whole.encode()).hexdigest()[:_SLUG_DIGEST_LENGTH]
        return f"{words}_{digest}" if words else digest


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of several texts, in their order.

    `vectors` is `(n, dim)` float32 with rows of length 1. `tokens_per_text` says what each text used; a remote embedder
    that reports only a sum has it apportioned by length.
    """

    vectors: NDArray[np.float32]
    tokens_per_text: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all texts together: what a paid embedder bills."""
        return sum(self.tokens_per_text)


class Embedder(Protocol):
    """Turns texts into vectors whose dot product is their similarity.

    Texts come from callers and may hold anything; none of them, and no vector, appears in an error or a log line.
    """

    @property
    def identity(self) -> EmbedderIdentity:
        """Constant for the embedder's life, known before `warm`."""

    @property
    def default_min_similarity(self) -> float:
        """Cosine for the simple mode when the operator names none."""

    async def warm(self) -> None:
        """Do what the first `embed` would wait for; a server calls it before it says SERVING."""

    def windows(self, text: str) -> int:
        """How many forward passes the text costs: the caller's time budget grows with it.

        At least 1, cheap enough for the event loop, exact for short texts and an estimate for long ones. A remote
        embedder answers with what a network call is worth.
        """

    def comparable(self, text: str) -> bool:
        """Whether the text's vector says enough to serve another text's answer for it.

        Not for one with pieces that the encoder does not know, which all look alike to it, nor for one that it cannot
        read whole. Reads the text: call it in a thread for a long one.
        """

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """One vector for each text, none for some: the call fails as a whole.

        `Unavailable` (EMBEDDER_UNAVAILABLE): the embedder is down, slow, or answered with something that is no vector;
        (EMBEDDER_UNAUTHENTICATED): it refuses our credential; (EMBEDDER_DIMENSION): its vectors have another length.
        `InvalidRequest` (CONTEXT_TOO_LONG, UPSTREAM_REJECTED): a text cannot be embedded whole; it is never cut.
        """

    async def aclose(self) -> None:
        """Release threads and connections; running calls may fail."""
