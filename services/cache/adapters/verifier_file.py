"""From settings to the judge: which verifier is used, or none."""

from __future__ import annotations

from importlib import resources

from services.cache.decision import Judge
from services.cache.judges import GuardedJudge, VerifiedJudge
from services.cache.settings import CacheSettings
from services.chassis.settings import SettingsError

VARIABLE = "ANTIPHON_CACHE_VERIFIER"

SHIPPED = "minilm.json"
"""Fitted to the default embedder."""

MOST_BYTES = 16 * 1024 * 1024


def load_judge(settings: CacheSettings, *, embedder: str, min_similarity: float) -> Judge:
    """How this process decides, over the embedder with the slug `embedder` and its own least cosine.

    A least cosine that the operator sets is the simple mode. Otherwise the verifier decides that the settings name, or
    the shipped one if it was fitted to this embedder; for other embedders there is none. Raises SettingsError for a
    named file that cannot be used.
    """
    if settings.min_similarity is not None:
        return GuardedJudge(settings.min_similarity)
    if settings.verifier is None:
        shipped = resources.files("services.cache").joinpath("verifier", SHIPPED).read_text(encoding="utf-8")
        judge = _judge(shipped, settings.preset)
        return judge if judge.embedder == embedder else GuardedJudge(min_similarity)
    try:
        with settings.verifier.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(VARIABLE, f"the file cannot be read ({type(error).__name__})") from None
    if len(content) > MOST_BYTES:
        raise SettingsError(VARIABLE, f"the file has more than {MOST_BYTES} bytes")
    try:
        fitted = content.decode("utf-8")
    except UnicodeDecodeError:
        raise SettingsError(VARIABLE, "the file is not text in UTF-8") from None
    judge = _judge(fitted, settings.preset)
    if judge.embedder != embedder:
        raise SettingsError(VARIABLE, f"was fitted to the embedder {judge.embedder}, and {embedder} is in use")
    return judge


def _judge(fitted: str, preset: str) -> VerifiedJudge:
    try:
        return VerifiedJudge(fitted, preset)
    except ValueError as error:
        raise SettingsError(VARIABLE, f"is no verifier that this version can use: {error}") from None
    except KeyError:
        raise SettingsError("ANTIPHON_CACHE_PRESET", "the verifier has no such preset") from None
