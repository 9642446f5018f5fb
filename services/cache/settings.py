"""Settings of the cache service (`ANTIPHON_CACHE_…`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from services.chassis.settings import SuiteSettings, UserPath
from services.embedding.settings import EmbeddingSettings

SERVICE = "cache"


class CacheSettings(SuiteSettings):
    """What the process can be told. `cache_listen`, `state_dir`, `qdrant_url` … are the suite's."""

    embedding: EmbeddingSettings = Field(default_factory=EmbeddingSettings, description="The embedder.")
    ttl: float = Field(
        default=86_400.0,
        gt=0,
        le=10 * 365 * 86_400.0,
        description="Seconds an answer is served after it was stored, less up to 5 % at random; callers get no more.",
    )
    min_similarity: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The simple mode: instead of the verifier this cosine, and none of the guard's differences, make a "
        "semantic hit; a caller can only ask for more. 1: the exact tier only. Unset: the verifier decides; with an "
        "embedder that none is fitted to, the embedder's own (0.92 for minilm, 0.95 for encoders about which nothing "
        "was measured).",
    )
    preset: Literal["strict", "default", "balanced", "loose"] = Field(
        default="default",
        description="How sure the verifier must be of a semantic hit: from `strict`, with the fewest hits and the "
        "fewest wrong ones, to `loose`. A caller can only ask for more.",
    )
    verifier: UserPath | None = Field(
        default=None,
        description="File with a verifier that was fitted to the embedder in use (`make fit-decision`). Unset: the "
        "packaged one, which is for minilm.",
    )
    learning: Literal["off", "tighten", "adapt"] = Field(
        default="tighten",
        description="What the verifier's rule becomes in a namespace where comparisons of answers show how often it is "
        "wrong: `tighten` makes it stricter than the preset where needed, `adapt` also looser where the preset's share "
        "of wrong hits is kept all the same, `off` leaves it as it is and compares nothing. Without a verifier nothing "
        "is learned.",
    )
    audit_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of semantic hits that the completion service is asked to have answered anew, behind the "
        "caller's back and at the operator's cost, to compare both answers; with `learning` off none.",
    )
    quarantine_users: int = Field(
        default=3,
        ge=1,
        le=16,
        description="People who have to call an answer wrong, and be more than call it right, before it is not served "
        "any more. Of an operator, a judge model or an audit one word is enough.",
    )
    max_entry_bytes: int = Field(
        default=262_144,
        ge=1,
        le=4_194_304,
        description="Bytes of question and answer together; a larger answer is not stored.",
    )
    max_entries: int = Field(
        default=1_000_000,
        ge=1,
        le=100_000_000,
        description="Entries in memory; beyond that the tenant that has most loses those that will save least.",
    )
    max_tenant_entries: int = Field(
        default=1_000_000,
        ge=1,
        le=100_000_000,
        description="Entries of one tenant; beyond that those of its own that will save least make room.",
    )
    max_tenant_bytes: int = Field(
        default=8_589_934_592,
        ge=1_048_576,
        le=1 << 46,
        description="Bytes of one tenant's questions, answers and vectors; beyond that those make room that save "
        "least for their size. At most a fifth of the process's memory limit, if its cgroup has one.",
    )
    max_namespace_entries: int = Field(
        default=1_000_000,
        ge=1,
        le=100_000_000,
        description="Entries of one namespace of a tenant; beyond that those of the namespace make room.",
    )
    max_namespace_bytes: int = Field(
        default=8_589_934_592,
        ge=1_048_576,
        le=1 << 46,
        description="Bytes of one namespace, counted as those of a tenant.",
    )
    hot_bytes: int = Field(
        default=268_435_456,
        ge=0,
        le=1 << 46,
        description="Bytes of memory for the answers that were served last; others are fetched from the store when "
        "they are served. Short answers, and those that the store does not have yet, are in memory beside that. At "
        "most a quarter of the process's memory limit, if its cgroup has one.",
    )
    decision_budget: float = Field(
        default=0.05,
        gt=0,
        le=10,
        description="Seconds that a lookup may take without the embedding, in a batch every 16 of them together; "
        "then it ends as a bypass.",
    )
    search_threads: int = Field(default=1, ge=1, le=256, description="Threads for one search of a large scope.")
    lease: float = Field(
        default=30.0,
        ge=0.1,
        le=3600,
        description="Seconds in which the holder of a fill must renew it; then someone who waits takes over.",
    )
    max_fills: int = Field(
        default=100_000, ge=1, le=10_000_000, description="Questions whose answers may be in the making at once."
    )
    max_waiters: int = Field(
        default=4096, ge=1, le=1_000_000, description="Callers that may wait for someone else's answer at once."
    )
    store_timeout: float = Field(default=5.0, gt=0, le=300, description="Seconds that one call of the store may take.")
    max_unsaved: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="Entries that may wait for the store while it is down; then the oldest stay in memory only.",
    )
    max_queue_bytes: int = Field(
        default=268_435_456,
        ge=1_048_576,
        le=1 << 40,
        description="Bytes on disk, below the state folder, of what waits for the store while it is down; then the "
        "oldest entries stay in memory only. Deletes and clears are kept all the same.",
    )
    max_stale: float = Field(
        default=3_600.0,
        ge=0,
        le=10 * 365 * 86_400.0,
        description="Seconds that an answer is kept after its time for callers who take a stale one "
        "(`stale_while_revalidate`); they get no more.",
    )
    fingerprint_key_file: UserPath | None = Field(
        default=None,
        description="File with the 32 random bytes under which questions are hashed; every replica needs the same. "
        "Required with `ANTIPHON_QDRANT_URL`. Unset: `fingerprint.key` in the state folder, made once.",
    )
    replication_factor: int = Field(
        default=1, ge=1, le=32, description="Copies that a Qdrant cluster keeps of a collection that is made now."
    )
    write_consistency_factor: int = Field(
        default=1, ge=1, le=32, description="Copies that must have a write before it counts, in such a collection."
    )
