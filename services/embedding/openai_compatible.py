"""Embeddings from OpenAI, or from any server with the same API."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import openai
import orjson
from numpy.typing import NDArray
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Omit, omit

from services.chassis.errors import AntiphonError, FailedPrecondition, InvalidRequest, Reason, Unavailable
from services.embedding.pieces import well_formed
from services.embedding.protocol import UNKNOWN_MIN_SIMILARITY, Embedded, EmbedderIdentity
from services.embedding.settings import EmbeddingSettings
from services.embedding.vectors import unit_rows

OWN_URL = "https://api.openai.com/v1"

OWN_MODELS: Mapping[str, int] = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
"""Length of the vectors of OpenAI's models (its documentation, `guides/embeddings`)."""

REMOTE_WINDOWS = 20
"""What a remote call is worth in windows: it may take the whole budget that an embedding can have."""

RETRY_AFTER_S = 1.0
"""What callers are told to wait when the server does not say."""

_JSON_BYTES_PER_NUMBER = 32
_JSON_BYTES_BESIDE = 1 << 20
"""With the above, the longest answer that is read: floats in decimal, and an envelope."""

_REFUSED_KEY = frozenset({401, 403})
_REFUSED_TEXT = frozenset({400, 413, 422})
_KEYLESS = "unused"


def open_remote(settings: EmbeddingSettings, *, environ: Mapping[str, str]) -> OpenAIEmbedder:
    """The remote embedder of the settings; a missing key or an unknown length of vectors is `FailedPrecondition`."""
    url = settings.openai_base_url or environ.get("OPENAI_BASE_URL") or OWN_URL
    key = environ.get(settings.openai_api_key_env) or None
    if key is None and urlsplit(url).hostname == urlsplit(OWN_URL).hostname:
        raise _unready(f"OpenAI's embeddings need a key: {settings.openai_api_key_env} of the process that embeds")
    own_dim = OWN_MODELS.get(settings.openai_model)
    dim = settings.dim or own_dim
    if dim is None:
        raise _unready("the length of this remote model's vectors is not known: set ANTIPHON_EMBEDDING_DIM")
    return OpenAIEmbedder(
        model=settings.openai_model,
        dim=dim,
        shorten=own_dim is not None and dim != own_dim,
        url=url,
        key=key,
        timeout=settings.openai_timeout,
        max_bytes=settings.openai_max_bytes,
    )


class OpenAIEmbedder:
    """An `Embedder` that calls `POST /embeddings`, once for each `embed` and without retries of its own.

    `shorten` asks the server for vectors of length `dim`. Redirects are not followed: they would carry texts and the
    key to another host.
    """

    def __init__(
        self, *, model: str, dim: int, shorten: bool, url: str, key: str | None, timeout: float, max_bytes: int
    ) -> None:
        # Two servers may serve different weights under one name. The key is no part of it.
        revision = hashlib.sha256("\0".join((url.rstrip("/"), model, str(dim), str(shorten))).encode()).hexdigest()
        self._identity = EmbedderIdentity(model, dim, revision)
        self._dimensions = dim if shorten else omit
        self._max_bytes = max_bytes
        self._timeout = timeout
        # The SDK insists on a key, or on being told for each call that there is none.
        self._headers = None if key else {"Authorization": Omit()}
        self._client = AsyncOpenAI(
            api_key=key or _KEYLESS,
            base_url=url,
            timeout=timeout,
            max_retries=0,
            http_client=DefaultAsyncHttpxClient(follow_redirects=False),
        )

    @property
    def identity(self) -> EmbedderIdentity:
        return self._identity

    @property
    def default_min_similarity(self) -> float:
        return UNKNOWN_MIN_SIMILARITY

    async def warm(self) -> None:
        """Nothing: a server must start while the remote one is down, and a call would cost money."""

    def comparable(self, text: str) -> bool:  # noqa: ARG002 -- byte-level pieces and one long window: it reads all
        return True

    def windows(self, text: str) -> int:  # noqa: ARG002 -- the network's delay does not depend on it
        return REMOTE_WINDOWS

    async def embed(self, texts: Sequence[str]) -> Embedded:
        if not texts:
            return Embedded(np.empty((0, self._identity.dim), np.float32), ())
        clean = [well_formed(text) for text in texts]
        if any(len(text.encode()) > self._max_bytes for text in clean):
            raise InvalidRequest(f"the text has more than {self._max_bytes} bytes", reason=Reason.CONTEXT_TOO_LONG)
        body = await self._post(clean)
        rows, used = _parse(body, model=self._identity.name, count=len(texts))
        vectors = unit_rows(rows, count=len(texts), dim=self._identity.dim)
        return Embedded(vectors, _apportion(used, [len(text.encode()) for text in clean]))

    async def aclose(self) -> None:
        await self._client.close()

    async def _post(self, texts: list[str]) -> bytes:
        limit = len(texts) * self._identity.dim * _JSON_BYTES_PER_NUMBER + _JSON_BYTES_BESIDE
        body = bytearray()
        try:
            async with (
                # The SDK's timeout counts from byte to byte.
                asyncio.timeout(self._timeout),
                self._client.embeddings.with_streaming_response.create(
                    model=self._identity.name,
                    input=texts,
                    dimensions=self._dimensions,
                    encoding_format="base64",
                    extra_headers=self._headers,
                ) as response,
            ):
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > limit:
                        raise _broken("answered with more than its vectors can need")
        except TimeoutError:
            raise _broken("did not answer in time") from None
        except openai.APIStatusError as error:
            raise _refusal(error) from None
        except openai.OpenAIError as error:
            raise _broken(f"could not be reached ({type(error).__name__})") from None
        return bytes(body)


def _parse(body: bytes, *, model: str, count: int) -> tuple[NDArray[np.float32], int]:
    """The rows in the order of the request, sent as base64 or as numbers, and the tokens used (0 if not reported)."""
    try:
        answer = orjson.loads(body)
        reported, data = answer.get("model"), answer["data"]
        if sorted(item["index"] for item in data) != list(range(count)):
            raise _broken("did not answer with one vector for each text")
        ordered = sorted(data, key=lambda item: item["index"])
        rows = np.stack([_row(item["embedding"]) for item in ordered])
        used = (answer.get("usage") or {}).get("prompt_tokens", 0)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _broken("answered with something that is no list of embeddings") from None
    if reported and not _same_model(model, reported):
        raise _broken("answered for another model than the one that was asked")
    return rows, used if isinstance(used, int) and used > 0 else 0


def _row(value: Any) -> NDArray[np.float32]:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
    if not isinstance(value, list):
        raise TypeError
    return np.asarray(value, np.float32)


def _same_model(asked: str, reported: Any) -> bool:
    """Whether a server that answers with `reported` means `asked`: it may drop an owner's name or add a version."""
    if not isinstance(reported, str):
        return False
    return reported.rpartition("/")[2].lower().startswith(asked.rpartition("/")[2].lower())


def _apportion(total: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """`total` in whole shares proportional to `sizes`, which add up to it."""
    whole = sum(sizes) or 1
    shares, seen, given = [], 0, 0
    for size in sizes:
        seen += size
        upto = total * seen // whole
        shares.append(upto - given)
        given = upto
    if shares:
        shares[-1] += total - given
    return tuple(shares)


def _refusal(error: openai.APIStatusError) -> AntiphonError:
    if error.status_code in _REFUSED_TEXT:
        return InvalidRequest(
            f"the embedding server refused the text (HTTP {error.status_code})", reason=Reason.UPSTREAM_REJECTED
        )
    if error.status_code in _REFUSED_KEY:
        what = f"the embedding server refuses the credential (HTTP {error.status_code})"
        return Unavailable(what, reason=Reason.EMBEDDER_UNAUTHENTICATED)
    retry_after = RETRY_AFTER_S
    if (said := error.response.headers.get("retry-after", "")).isdigit():
        retry_after = float(said)
    return _broken(f"answered with HTTP {error.status_code}", retry_after=retry_after)


def _broken(what: str, *, retry_after: float = RETRY_AFTER_S) -> Unavailable:
    return Unavailable(f"the embedding server {what}", reason=Reason.EMBEDDER_UNAVAILABLE, retry_after=retry_after)


def _unready(problem: str) -> FailedPrecondition:
    return FailedPrecondition(problem, reason=Reason.EMBEDDER_UNAVAILABLE)
