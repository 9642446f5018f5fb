"""Run by an interpreter that has `antiphon-client` and nothing else of ours: every module, two answers, one error.

Prints JSON: the modules that were imported, the text of an answer and of a streamed one, and what an error became.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import sys

import grpc.aio
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import antiphon
import antiphon_client
from antiphon.completion.v1 import completion_pb2, completion_pb2_grpc
from antiphon_client import AntiphonError, AsyncCompletionClient

CALL_TIMEOUT_S = 30.0


class Servicer(completion_pb2_grpc.CompletionServiceServicer):
    """Answers with the prompt, and an empty prompt with an error as the real servers send it."""

    async def Complete(self, request, context):  # noqa: N802 -- the name is the contract's
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


async def call() -> dict[str, str]:
    """Ask a server of this process for an answer, for a stream, and for what it refuses."""
    server = grpc.aio.server()
    completion_pb2_grpc.add_CompletionServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with AsyncCompletionClient(f"127.0.0.1:{port}") as client:
            response = await client.complete("hello", timeout=CALL_TIMEOUT_S)
            async with client.stream("one two", timeout=CALL_TIMEOUT_S) as events:
                streamed = "|".join([event.delta.text async for event in events])
            try:
                await client.complete("", timeout=CALL_TIMEOUT_S)
            except AntiphonError as error:
                refused = {"error": type(error).__name__, "reason": error.reason}
                return {"answer": response.answer.text, "streamed": streamed, **refused}
        raise AssertionError("the empty prompt was answered")
    finally:
        await server.stop(None)


def main() -> None:
    """Import every module but the command line's, which has an extra of its own; then call."""
    modules = [
        importlib.import_module(found.name).__name__
        for package in (antiphon, antiphon_client)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not found.name.startswith("antiphon_client.cli.")
    ]
    json.dump({"modules": modules, **asyncio.run(call())}, sys.stdout)


if __name__ == "__main__":
    main()
