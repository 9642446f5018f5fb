"""Run by an interpreter that has `antiphon-client` and nothing else of ours: every module, both kinds of client.

Prints JSON: the modules that were imported, and for each kind of client the text of an answer, of one that needed a
second attempt, of a streamed one, and what an error became.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import antiphon
import antiphon_client
from antiphon.completion.v1 import completion_pb2, completion_pb2_grpc
from antiphon_client import AntiphonError, AsyncCompletionClient, CompletionClient

CALL_TIMEOUT_S = 30.0


class Servicer(completion_pb2_grpc.CompletionServiceServicer):
    """Answers with the prompt, and an empty prompt with an error as the real servers send it."""

    def __init__(self) -> None:
        self._away = False

    async def Complete(self, request, context):  # noqa: N802 -- the name is the contract's
        if request.idempotency_key:  # every other call of this kind finds nobody
            self._away = not self._away
            if self._away:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", "-1"),))
                await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if request.prompt:
            response = completion_pb2.CompleteResponse()
            response.answer.text = f"{request.prompt}!"
            return response
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason="EMPTY_PROMPT", domain="antiphon"))
        code = grpc.StatusCode.INVALID_ARGUMENT
        status = status_pb2.Status(code=code.value[0], message="prompt is empty", details=[detail])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        await context.abort(code, status.message)
        raise AssertionError("abort always raises")

    async def StreamComplete(self, request, context):  # noqa: N802 -- the name is the contract's
        for word in request.request.prompt.split():
            event = completion_pb2.StreamCompleteResponse()
            event.delta.text = word
            yield event
        yield completion_pb2.StreamCompleteResponse(finished=completion_pb2.Finished())

    async def ResumeStream(self, request, context):  # noqa: N802 -- the name is the contract's
        finished = completion_pb2.StreamCompleteResponse(finished=completion_pb2.Finished())
        yield completion_pb2.ResumeStreamResponse(event=finished)

    async def SubmitFeedback(self, request, context):  # noqa: N802 -- the name is the contract's
        return completion_pb2.SubmitFeedbackResponse(recorded=bool(request.completion_id))


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Serve on a free port of this process."""
    server = grpc.aio.server()
    completion_pb2_grpc.add_CompletionServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def in_a_loop(address: str) -> dict[str, Any]:
    """Ask for an answer, for a stream, for one that needs a second attempt, and for what is refused."""
    seen: dict[str, Any] = {}
    async with AsyncCompletionClient(address, api_key="key") as client:
        seen["answer"] = (await client.complete("hello", timeout=CALL_TIMEOUT_S)).answer.text
        seen["again"] = (await client.complete("hi", idempotency_key="k", timeout=CALL_TIMEOUT_S)).answer.text
        async with client.stream("one two", timeout=CALL_TIMEOUT_S) as stream:
            seen["streamed"] = "|".join([text async for text in stream.text_stream])
        try:
            await client.complete("", timeout=CALL_TIMEOUT_S)
        except AntiphonError as error:
            seen |= {"error": type(error).__name__, "reason": error.reason}
    return seen


def in_a_thread(address: str) -> dict[str, Any]:
    """The same without a loop."""
    seen: dict[str, Any] = {}
    with CompletionClient(address, api_key="key") as client:
        seen["answer"] = client.complete("hello", timeout=CALL_TIMEOUT_S).answer.text
        seen["again"] = client.complete("hi", idempotency_key="k", timeout=CALL_TIMEOUT_S).answer.text
        with client.stream("one two", timeout=CALL_TIMEOUT_S) as stream:
            seen["streamed"] = "|".join(stream.text_stream)
        try:
            client.complete("", timeout=CALL_TIMEOUT_S)
        except AntiphonError as error:
            seen |= {"error": type(error).__name__, "reason": error.reason}
    return seen


async def call() -> dict[str, dict[str, Any]]:
    """Call a server of this process with both kinds of client."""
    async with serving() as address:
        return {"async": await in_a_loop(address), "sync": await asyncio.to_thread(in_a_thread, address)}


def main() -> None:
    """Import every module but the command line's, which has an extra of its own; then call."""
    modules = [
        importlib.import_module(found.name).__name__
        for package in (antiphon, antiphon_client)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not found.name.startswith("antiphon_client.cli.")
    ]
    json.dump({"modules": modules, "python": list(sys.version_info[:2]), **asyncio.run(call())}, sys.stdout)


if __name__ == "__main__":
    main()
