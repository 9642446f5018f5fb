"""What came of one line, and the object that `--out` writes about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client.cli.replay.lines import Line
from antiphon_client.cli.show import outcome
from antiphon_client.errors import AntiphonError

HITS = (cache_pb2.OUTCOME_EXACT, cache_pb2.OUTCOME_SEMANTIC, cache_pb2.OUTCOME_STALE)


@dataclass(frozen=True, slots=True)
class Result:
    """Either `info` or `error` is set. `ms`: from sending the request to having its answer."""

    index: int
    ms: float
    info: completion_pb2.CompletionInfo | None = None
    error: AntiphonError | None = None

    def record(self) -> dict[str, Any]:
        """Return the object of `--out`; null where nothing is known."""
        info = self.info or completion_pb2.CompletionInfo()
        decision = info.cache.decision if info.cache.HasField("decision") else None
        return {
            "index": self.index,
            "outcome": outcome(info.cache.outcome) if self.info else None,
            "similarity": decision.similarity if decision and decision.HasField("similarity") else None,
            "p_wrong": decision.p_wrong if decision and decision.HasField("p_wrong") else None,
            "matched_prompt": (decision.matched_prompt or None) if decision else None,
            "veto_reasons": list(decision.veto_reasons) if decision else None,
            "model": info.model or None,
            "cost_nano_usd": info.cost.nano_usd if self.info else None,
            "ms": round(self.ms, 3),
            "error": _error(self.error) if self.error else None,
        }


def request_of(line: Line) -> completion_pb2.CompleteRequest:
    """Return the request of a line: its text as the user's message, after its system message if it has one."""
    messages = [llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=line.text)])]
    if line.system:
        part = llm_pb2.ContentPart(text=line.system)
        messages.insert(0, llm_pb2.Message(role=llm_pb2.ROLE_SYSTEM, parts=[part]))
    return completion_pb2.CompleteRequest(messages=messages, model=line.model, namespace=line.namespace)


def error_name(error: AntiphonError) -> str:
    """Return the status and, if there is one, its reason: `INVALID_ARGUMENT UNKNOWN_MODEL`."""
    return f"{error.code.name} {error.reason}".rstrip()


def _error(error: AntiphonError) -> str:
    fields = "".join(f"; {field}: {what}" for field, what in error.fields.items())
    return f"{error_name(error)}: {error.message}{fields}"
