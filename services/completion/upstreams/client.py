"""The HTTP client of one upstream: only our headers leave, only a plain event stream of bounded size comes in.

An HTTP library by itself adds headers from the environment and from cookies, follows redirects to other hosts, reads an
error's body without a limit, and unpacks whatever a server chose to compress. All of that ends here. aiohttp, because
its parser is compiled: a call costs a quarter of what it does through the SDK, and a token a third.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from typing import Any, cast

import aiohttp
import orjson
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from services.chassis.errors import FailedPrecondition, Reason
from services.completion.upstreams import failures
from services.completion.upstreams.failures import Complaint
from services.completion.upstreams.rate_limits import rate_limit

MAX_ERROR_BYTES = 64 * 1024
"""Of an error's body; an error object is below 2 KiB."""

ERROR_BODY_SECONDS = 2.0
"""For the body of an error whose status is already known."""

MAX_CONNECTIONS = 1_000
"""To one upstream. The service's own limits are lower; this one keeps a defect from taking every file descriptor."""

KEEPALIVE_SECONDS = 15.0
"""Idle connections are dropped after this; servers and load balancers in between drop theirs after 30 s or more."""

MAX_HEADER_BYTES = 32 * 1024
"""Of one header of a response: gateways send long ones, of cookies and content policies."""

BROKEN = (aiohttp.ClientError, OSError)
"""A connection that broke, in all the ways in which the HTTP library reports it. `TimeoutError` is an `OSError`."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def own_headers(upstream: str, api_key: str | None, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that identify us; `FailedPrecondition(UPSTREAM_UNAUTHENTICATED)` if one cannot be sent.

    Checked here because the HTTP library's own complaint would quote the value.
    """
    own = {
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": "antiphon",
    }
    if api_key:
        own["authorization"] = f"Bearer {api_key}"
    own.update({name.lower(): value for name, value in headers.items()})
    for name, value in own.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            what = "key" if name == "authorization" else "configured header"
            raise FailedPrecondition(
                f"a {what} of upstream '{upstream}' has characters that no HTTP header can carry",
                reason=Reason.UPSTREAM_UNAUTHENTICATED,
                metadata={"upstream": upstream},
            )
    return own


class _Protocol(ResponseHandler):
    """Resumes reading where it was paused; the library does it, parser and transport, with every piece that is read."""

    def resume_reading(self, *args: bool, **named: bool) -> None:
        if self._reading_paused:
            super().resume_reading(*args, **named)


class _Connector(aiohttp.TCPConnector):
    """Closes an idle connection on which something came unasked: it would be read as the answer to the next request."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._factory = cast("partial[ResponseHandler]", partial(_Protocol, loop=self._loop))

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            protocol = connection.protocol
            if protocol is not None and not protocol.should_close:
                return connection
            connection.close()
        return None


class HttpClient:
    """Posts to one address. Loads the system's certificates: make it at start, not on the loop."""

    def __init__(
        self, upstream: str, url: str, own: Mapping[str, str], *, now: Callable[[], float] = time.time
    ) -> None:
        self._upstream = upstream
        self._url = URL(url).with_user(None)
        self._own = own
        self._now = now
        self._proxy = _proxy(self._url)
        self._tls = ssl.create_default_context() if self._url.scheme == "https" else True
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes, *, connect_timeout: float) -> aiohttp.ClientResponse:
        """Return a response whose headers are there: a 2xx event stream. All else is raised as our errors.

        Only connecting has a limit here (seconds), a wait for the response is the caller's to bound. Raises
        `aiohttp.ConnectionTimeoutError`, and what is in `BROKEN`. Whoever gets a response must close it.
        """
        response = await self._opened().post(
            self._url,
            data=body,
            headers=self._own,  # those of a session go to the proxy as well, the key among them
            allow_redirects=False,
            proxy=self._proxy,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout),
        )
        try:
            await self._must_stream(response)
        except BaseException:
            response.close()
            raise
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:  # it belongs to a loop, and this is the first time that one is sure to run
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_SECONDS, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,  # it would send what stands in .netrc
                max_field_size=MAX_HEADER_BYTES,
            )
        return self._session

    async def _must_stream(self, response: aiohttp.ClientResponse) -> None:
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not 200 <= response.status < 300:
            raise failures.of_status(
                self._upstream,
                response.status,
                await _complaint(response, media_type),
                retry_after=_retry_after(response, self._now),
            )
        if response.status == HTTPStatus.NO_CONTENT:
            raise failures.malformed(self._upstream, "no content")
        if response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
            raise failures.oversize(self._upstream, "a compressed stream, whose size nothing bounds")
        if media_type == "application/json":
            complaint = await _complaint(response, media_type)
            if complaint != Complaint():
                raise failures.of_status(self._upstream, complaint.status(), complaint)
        if media_type not in {"", "text/event-stream"}:
            raise failures.malformed(self._upstream, "something that is no event stream")


def at_hand(response: aiohttp.ClientResponse) -> bytes:
    """Return what of the body has arrived and was not read, also when the connection has broken since.

    The library's own `read_nowait` would raise then, and what came before the break would be lost.
    """
    content = response.content
    return content._read_nowait(-1) if content._buffer else b""


def _proxy(url: URL) -> str | None:
    """Return the proxy that the environment names for an address (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), if any."""
    host = url.host or ""
    if urllib.request.proxy_bypass(host if url.explicit_port is None else f"{host}:{url.explicit_port}"):
        return None
    proxies = urllib.request.getproxies()
    if _within_ranges(host, proxies.get("no", "")):
        return None
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _within_ranges(host: str, bypassed: str) -> bool:
    """Whether a host is an IP address in a range of NO_PROXY, as curl and Go take them; Python looks at names only."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    for word in bypassed.split(","):
        with suppress(ValueError):
            if "/" in word and address in ip_network(word.strip(), strict=False):
                return True
    return False


def _retry_after(response: aiohttp.ClientResponse, now: Callable[[], float]) -> float | None:
    """Return the wait that the server asks for; a spent rate limit says it without `Retry-After`, too."""
    seconds = failures.retry_after(response.headers, now)
    if seconds is None and response.status == 429:
        limit = rate_limit(response.headers)
        seconds = limit.seconds if limit is not None and limit.calls == 0 else None
    return seconds


async def _complaint(response: aiohttp.ClientResponse, media_type: str) -> Complaint:
    """Return what a bounded part of the body says; empty if it cannot be read, since the status says enough."""
    encoded = response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}
    if encoded or not media_type.endswith("json"):
        return Complaint()
    body = bytearray()
    try:
        async with asyncio.timeout(ERROR_BODY_SECONDS):
            while piece := await response.content.readany():
                body += piece
                if len(body) > MAX_ERROR_BYTES:
                    return Complaint()
        found = orjson.loads(body)
    except (TimeoutError, *BROKEN, orjson.JSONDecodeError):
        return Complaint()
    if not isinstance(found, dict):
        return Complaint()
    return Complaint.read(found.get("error") or (found if found.get("object") == "error" else None))
