"""Between the rpcs that change the embedder and plain values."""

from __future__ import annotations

from antiphon.cache.v1 import reembedding_pb2 as pb
from services.cache.entry import MICROSECONDS
from services.cache.rotation.filling import Role
from services.cache.rotation.plan import Choice, End, Phase, Plan
from services.llm.fields import invalid
from services.llm.writing import write_timestamp

ROLES = {
    Role.NONE: pb.REEMBEDDING_ROLE_UNSPECIFIED,
    Role.MOVES: pb.REEMBEDDING_ROLE_MOVES,
    Role.WAITS: pb.REEMBEDDING_ROLE_WAITS,
    Role.PAUSES: pb.REEMBEDDING_ROLE_PAUSES,
}

MAX_NAME = 512
MAX_DIM = 16_384

_PHASES = {
    Phase.EMBEDDING: pb.REEMBEDDING_PHASE_EMBEDDING,
    Phase.SWITCHED: pb.REEMBEDDING_PHASE_SWITCHED,
    Phase.DROPPING: pb.REEMBEDDING_PHASE_DROPPING,
    Phase.DROPPED: pb.REEMBEDDING_PHASE_DROPPED,
    Phase.CANCELLED: pb.REEMBEDDING_PHASE_CANCELLED,
}


def read_choice(request: pb.StartReembeddingRequest) -> Choice:
    """The embedder that is asked for. Raises InvalidRequest."""
    to = request.to
    if not to.embedder:
        raise invalid("to.embedder", "must be given")
    for name in ("embedder", "model"):
        if len(getattr(to, name)) > MAX_NAME:
            raise invalid(f"to.{name}", f"at most {MAX_NAME} characters")
    if not 0 <= to.dim <= MAX_DIM:
        raise invalid("to.dim", f"must be within 0 … {MAX_DIM}")
    if to.embedder != "openai" and (to.model or to.dim):
        raise invalid("to.model" if to.model else "to.dim", "is for the embedder `openai` only")
    return Choice(to.embedder, to.model, to.dim)


def read_share(request: pb.StartReembeddingRequest) -> float | None:
    """How much of the time embedding may take; None if nothing is said. Raises InvalidRequest."""
    share = request.share
    if not share:
        return None
    if not 0.001 <= share <= 1.0:
        raise invalid("share", "must be within 0.001 … 1")
    return share


def write_plan(plan: Plan, now: float) -> pb.Reembedding:
    """What is told of a change at a time in Unix seconds."""
    return pb.Reembedding(
        phase=_PHASES[plan.phase],
        source=_end(plan.source),
        target=_end(plan.target),
        done=plan.done,
        total=plan.total,
        skipped=plan.skipped,
        failing=plan.failing,
        share=plan.share,
        start_time=write_timestamp(plan.started_us / MICROSECONDS),
        phase_time=write_timestamp(plan.changed_us / MICROSECONDS),
        cancelled=plan.given_up,
        unembedded=plan.unembedded,
        settling=plan.settling(int(now * MICROSECONDS)),
    )


def _end(end: End) -> pb.EmbedderEnd:
    choice = pb.EmbedderChoice(embedder=end.choice.embedder, model=end.choice.model, dim=end.choice.dim)
    return pb.EmbedderEnd(choice=choice, embedder=end.slug, dim=end.dim)
