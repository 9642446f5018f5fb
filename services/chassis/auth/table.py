"""Who may call what: every method of every service, and the roles that may call it. What is not here nobody may."""

from __future__ import annotations

from collections.abc import Mapping

from services.chassis.auth.values import Role

Table = Mapping[str, frozenset[Role]]
"""By full name, `package.Service/Method`."""

_CLIENTS = frozenset({Role.CLIENT, Role.OPERATOR})
_SUITE = frozenset({Role.SERVICE, Role.OPERATOR})
_OPERATORS = frozenset({Role.OPERATOR})
_ALL = frozenset(Role)

TABLE: Table = {
    "antiphon.completion.v1.CompletionService/Complete": _CLIENTS,
    "antiphon.completion.v1.CompletionService/StreamComplete": _CLIENTS,
    "antiphon.completion.v1.CompletionService/ResumeStream": _CLIENTS,
    "antiphon.completion.v1.CompletionService/SubmitFeedback": _CLIENTS,
    "antiphon.cache.v1.CacheService/Lookup": _SUITE,
    "antiphon.cache.v1.CacheService/BatchLookup": _SUITE,
    "antiphon.cache.v1.CacheService/WaitFill": _SUITE,
    "antiphon.cache.v1.CacheService/RenewFill": _SUITE,
    "antiphon.cache.v1.CacheService/Commit": _SUITE,
    "antiphon.cache.v1.CacheService/Abort": _SUITE,
    "antiphon.cache.v1.CacheService/Put": _SUITE,
    "antiphon.cache.v1.CacheService/ReportAudit": _SUITE,
    "antiphon.cache.v1.CacheService/Delete": _OPERATORS,
    "antiphon.cache.v1.CacheService/Clear": _OPERATORS,
    "antiphon.cache.v1.CacheService/GetStats": _ALL,
    "antiphon.cache.v1.CacheService/Explain": _OPERATORS,
    "antiphon.cache.v1.CacheService/ListEntries": _OPERATORS,
    "antiphon.cache.v1.CacheService/Feedback": _SUITE,
    "antiphon.cache.v1.CacheService/Export": _OPERATORS,
    "antiphon.cache.v1.CacheService/Import": _OPERATORS,
    "antiphon.cache.v1.CacheService/StartReembedding": _OPERATORS,
    "antiphon.cache.v1.CacheService/GetReembedding": _OPERATORS,
    "antiphon.cache.v1.CacheService/CancelReembedding": _OPERATORS,
    "antiphon.cache.v1.CacheService/DropOldEmbeddings": _OPERATORS,
    "antiphon.router.v1.RouterService/Route": _SUITE,
    "antiphon.router.v1.RouterService/RecordOutcome": _SUITE,
    "antiphon.router.v1.RouterService/BatchRecordOutcomes": _SUITE,
    "antiphon.router.v1.RouterService/ListModels": _ALL,
}

OPEN_SERVICES = frozenset(
    {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
)
"""Anyone may call these, without a credential: probes have none, and the contracts are public."""
