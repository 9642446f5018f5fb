"""One replay: every line is sent in its turn, and what comes of it is counted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from antiphon_client.cli.hints import unreachable
from antiphon_client.cli.replay.lines import Line
from antiphon_client.cli.replay.result import Result, request_of
from antiphon_client.cli.replay.schedule import in_order
from antiphon_client.cli.replay.tally import Tally
from antiphon_client.completion import AsyncCompletionClient
from antiphon_client.errors import AntiphonError, PermissionDeniedError, UnauthenticatedError


class Replay:
    """What it has counted in `tally` stays when it ends early. `records` gets a line of JSON per request."""

    def __init__(self, tally: Tally, records: TextIO | None, *, timeout: float, changed: Callable[[], None]) -> None:
        """`timeout`: seconds of one request; `changed` is called when something was counted."""
        self._tally = tally
        self._records = records
        self._timeout = timeout
        self._changed = changed

    async def run(self, client: AsyncCompletionClient, lines: Iterator[Line], *, concurrency: int) -> None:
        """Send all lines.

        Raises the `AntiphonError` of a request if nothing was answered before and nothing can be: nobody is there, or
        the key is refused. Raises what `lines` raises, and `OSError` if `records` cannot be written.
        """

        async def send(line: Line) -> None:
            self._count(await self._ask(client, line))

        try:
            await in_order(lines, send, concurrency=concurrency)
        except BaseExceptionGroup as group:
            # The first is the cause: all others were cancelled, or failed for the same reason at the same time.
            raise _first(group) from None

    async def _ask(self, client: AsyncCompletionClient, line: Line) -> Result:
        begun = time.perf_counter()
        try:
            response = await client.complete(request_of(line), timeout=self._timeout)
        except AntiphonError as error:
            return Result(line.index, _ms_since(begun), error=error)
        return Result(line.index, _ms_since(begun), info=response.info)

    def _count(self, result: Result) -> None:
        self._tally.add(result)
        if self._records is not None:
            self._records.write(json.dumps(result.record(), ensure_ascii=False) + "\n")
        self._changed()
        if result.error is not None and not self._tally.answered and _hopeless(result.error):
            raise result.error


def _hopeless(error: AntiphonError) -> bool:
    return unreachable(error) or isinstance(error, UnauthenticatedError | PermissionDeniedError)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _ms_since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1e3
