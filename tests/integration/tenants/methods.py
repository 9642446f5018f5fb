"""Every method of every service of the contracts: how to call it, and which of its fields name an object."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import grpc.aio
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import antiphon
from antiphon.cache.v1 import cache_pb2, reembedding_pb2, transfer_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon.router.v1 import router_pb2
from antiphon_client.errors import AntiphonError, from_rpc_error

SECONDS = 60.0
Metadata = Sequence[tuple[str, str | bytes]]

_ID = re.compile(r"(^|_)ids?$")


def services() -> Iterator[ServiceDescriptor]:
    """Yield the services of all packages of stubs."""
    for module in pkgutil.walk_packages(antiphon.__path__, "antiphon."):
        if module.name.endswith("_pb2"):
            yield from importlib.import_module(module.name).DESCRIPTOR.services_by_name.values()


METHODS: Mapping[str, MethodDescriptor] = {
    f"{service.name}/{method.name}": method for service in services() for method in service.methods
}
"""By `Service/Method`."""


def server_of(name: str) -> str:
    """The process that serves a method: `antiphon.cache.v1` is served by `cache`."""
    return METHODS[name].containing_service.full_name.split(".")[1]


def id_fields(name: str) -> Iterator[str]:
    """Yield the paths of the fields of a method's request that may name an object, at any depth."""
    yield from _id_fields(METHODS[name].input_type, "", frozenset())


def _id_fields(message: Descriptor, path: str, above: frozenset[str]) -> Iterator[str]:
    if message.full_name in above or not message.file.package.startswith("antiphon."):
        return
    for field in message.fields:
        if _ID.search(field.name):
            yield path + field.name
        if field.message_type is not None:
            yield from _id_fields(field.message_type, f"{path}{field.name}.", above | {message.full_name})


def messages(text: str) -> list[llm_pb2.Message]:
    """A conversation of one question."""
    return [llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=text)])]


def answer(text: str) -> llm_pb2.Answer:
    """An answer that may be stored."""
    return llm_pb2.Answer(text=text, finish_reason=llm_pb2.FINISH_REASON_STOP, model="small")


def query(text: str) -> cache_pb2.Query:
    """A question to the cache."""
    return cache_pb2.Query(messages=messages(text))


REQUESTS: Mapping[str, Callable[[], Message]] = {
    "CacheService/Lookup": lambda: cache_pb2.LookupRequest(
        query=query("?"), policy=cache_pb2.CachePolicy(mode=cache_pb2.CACHE_MODE_ONLY_IF_CACHED)
    ),
    "CacheService/BatchLookup": lambda: cache_pb2.BatchLookupRequest(
        lookups=[cache_pb2.LookupRequest(query=query("?")), cache_pb2.LookupRequest(query=query("!"))]
    ),
    "CacheService/WaitFill": lambda: cache_pb2.WaitFillRequest(lease_id="none"),
    "CacheService/RenewFill": lambda: cache_pb2.RenewFillRequest(lease_id="none"),
    "CacheService/Commit": lambda: cache_pb2.CommitRequest(lease_id="none", answer=answer("!")),
    "CacheService/Abort": lambda: cache_pb2.AbortRequest(lease_id="none"),
    "CacheService/Put": lambda: cache_pb2.PutRequest(query=query("put"), answer=answer("!")),
    "CacheService/ReportAudit": lambda: cache_pb2.ReportAuditRequest(audit_id="none", answer=answer("!")),
    "CacheService/Delete": lambda: cache_pb2.DeleteRequest(entry_ids=cache_pb2.EntryIds(ids=["none"])),
    "CacheService/Clear": lambda: cache_pb2.ClearRequest(namespace="empty"),
    "CacheService/GetStats": cache_pb2.GetStatsRequest,
    "CacheService/ListEntries": cache_pb2.ListEntriesRequest,
    "CacheService/Feedback": lambda: feedback("none"),
    "CacheService/Export": transfer_pb2.ExportRequest,
    "CacheService/Import": transfer_pb2.ImportRequest,
    # To the embedder that serves: refused behind the door, and nothing changes.
    "CacheService/StartReembedding": lambda: reembedding_pb2.StartReembeddingRequest(
        to=reembedding_pb2.EmbedderChoice(embedder="minilm")
    ),
    "CacheService/GetReembedding": reembedding_pb2.GetReembeddingRequest,
    "CacheService/CancelReembedding": reembedding_pb2.CancelReembeddingRequest,
    "CacheService/DropOldEmbeddings": reembedding_pb2.DropOldEmbeddingsRequest,
    "CacheService/Explain": lambda: cache_pb2.ExplainRequest(query=query("?")),
    "RouterService/Route": lambda: router_pb2.RouteRequest(messages=messages("?")),
    "RouterService/ListModels": router_pb2.ListModelsRequest,
    "RouterService/RecordOutcome": lambda: report("none"),
    "RouterService/BatchRecordOutcomes": lambda: router_pb2.BatchRecordOutcomesRequest(reports=[report("none")]),
    "CompletionService/Complete": lambda: completion_pb2.CompleteRequest(prompt="?"),
    "CompletionService/ResumeStream": lambda: completion_pb2.ResumeStreamRequest(stream_id="none"),
    "CompletionService/StreamComplete": lambda: completion_pb2.StreamCompleteRequest(
        request=completion_pb2.CompleteRequest(prompt="?")
    ),
    "CompletionService/SubmitFeedback": lambda: completion_pb2.SubmitFeedbackRequest(
        completion_id="none", verdict=cache_pb2.VERDICT_WRONG
    ),
}
"""A request of each method that is valid, and asks for nothing that exists."""


def feedback(entry_id: str) -> cache_pb2.FeedbackRequest:
    """A verdict on an entry."""
    return cache_pb2.FeedbackRequest(
        entry_id=entry_id, verdict=cache_pb2.VERDICT_WRONG, source=cache_pb2.FEEDBACK_SOURCE_OPERATOR
    )


def report(decision_id: str) -> router_pb2.RecordOutcomeRequest:
    """A verdict on a decision."""
    return router_pb2.RecordOutcomeRequest(
        decision_id=decision_id, kind=router_pb2.OUTCOME_KIND_VERDICT, source="test", verdict=router_pb2.VERDICT_GOOD
    )


async def call(channel: grpc.aio.Channel, name: str, request: Message, metadata: Metadata) -> list[Message]:
    """Call a method; return its responses, or raise `AntiphonError`."""
    method = METHODS[name]
    path = f"/{method.containing_service.full_name}/{method.name}"
    read = GetMessageClass(method.output_type).FromString
    try:
        if method.server_streaming:
            streaming = channel.unary_stream(path, type(request).SerializeToString, read)
            return [each async for each in streaming(request, metadata=metadata, timeout=SECONDS)]
        if method.client_streaming:
            collecting = channel.stream_unary(path, type(request).SerializeToString, read)
            return [await collecting(iter((request,)), metadata=metadata, timeout=SECONDS)]
        unary = channel.unary_unary(path, type(request).SerializeToString, read)
        return [await unary(request, metadata=metadata, timeout=SECONDS)]
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


async def status(channel: grpc.aio.Channel, name: str, request: Message, metadata: Metadata) -> tuple[str, str, str]:
    """Call a method; return the code, the reason and the message with which it ends."""
    try:
        await call(channel, name, request, metadata)
    except AntiphonError as error:
        return error.code.name, error.reason, error.message
    return "OK", "", ""
