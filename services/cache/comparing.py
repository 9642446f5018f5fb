"""Whether two answers say the same: words, numbers, names, yes or no, refusals, and how alike their embeddings are.

What two texts differ in the guard and the verifier say, who were made for questions but know statements as well; a
logistic model weighs them. Fitted and measured on pairs of answers written by hand, `tests/quality/answers`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Protocol

from services.cache.decision import Judge, Verdict
from services.cache.kept import Kept
from services.cache.learning.labels import ComparerError
from services.cache.values import Vector

VERSION = "answers-3"

LONGEST = 1_000
"""Characters of an answer that are compared: about one window of the embedder, and what it says comes first."""

SAME = -1.0
"""Log-odds from which on answers are taken to say the same. Below 0, because most pairs that are compared do: what it
calls different by mistake blurs a small share of wrong answers more than what it overlooks, and costs a good entry."""

VECTORS = 64
"""Answers whose vectors are kept, 3 kB each: a fresh one is compared with several, a popular one with many. By tenant:
how fast an audit is answered tells nobody what was answered elsewhere."""

ERROR = ComparerError(agreeing=86, agreeing_missed=9, differing=335, differing_missed=72)
"""Out of fold, by question. The pairs are hard ones: one said in other words, and neighbours that differ in a word."""

WEIGHTS: Mapping[str, float] = {
    "bias": 2.74,
    "cosine": 0.74,
    "score": 3.46,
    "within": -0.86,
    "changed": -0.41,
    "frame": -2.31,
    "numbers_differ": -1.32,
    "number_more": 0.07,
    "numbers_equal": 1.79,
    "one_refuses": -0.09,
    "both_refuse": 2.45,
    "polarity": -1.03,
    "negation": -0.64,
    "opposite": -0.2,
    "name": -0.45,
    "short": 1.66,
}
"""Of the features, fitted on all pairs."""

_MARKS = re.compile(r"[*_#>`~|]+")
_SPACES = re.compile(r"\s+")
_WORD = re.compile(r"[^\W_]+(?:[.:,/'][^\W_]+)*")
_AMOUNT = re.compile(r"(\d+(?:[.,:]\d+)*)(?:\s?-?(am|pm|h|million|thousand|billion|years?)\b)?")
_FACTORS = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "year": 12.0, "years": 12.0}
_REFUSES = re.compile(
    r"\b(?:can(?:no|')?t|cannot|unable to|won't|not able to) (?:help|assist|comply|answer|provide|do that|discuss)"
    r"|\bas an ai\b|\b(?:don't|do not) have access\b"
)
_YES = re.compile(r"^(?:yes|yep|sure|of course|correct|certainly|absolutely|it is)\b")
_NO = re.compile(r"^(?:no|nope|unfortunately|sorry|i'm sorry|we can'?t|never)\b")
_NAMES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_DIGITS = {name: str(number) for number, name in enumerate(_NAMES)}
_SPELLED = re.compile(rf"\b(?:{'|'.join(_DIGITS)})\b")
_STOP_WORDS = (
    *("a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "because", "been", "but"),
    *("by", "can", "do", "does", "for", "from", "get", "had", "has", "have", "he", "her", "his", "how", "i", "if"),
    *("in", "into", "is", "it", "its", "just", "may", "more", "most", "no", "not", "of", "off", "on", "one"),
    *("only", "or", "other", "our", "out", "over", "she", "should", "so", "some", "such", "than", "that", "the"),
    *("their", "them", "then", "there", "they", "this", "to", "under", "up", "us", "use", "used", "was", "we"),
    *("were", "what", "when", "where", "which", "while", "who", "will", "with", "would", "you", "your", "yes"),
)
_STOP = frozenset(_STOP_WORDS)


class Embed(Protocol):
    """Turns a text into its vector."""

    async def embed_one(self, text: str) -> tuple[Vector, int]:
        """The vector, of norm 1, and the tokens it took. Raises Unavailable or Exhausted."""
        ...


class AnswerComparer:
    """A `Comparer` for answers in words; measured on English ones."""

    def __init__(self, embedder: Embed, judge: Judge) -> None:
        """`judge` has to be a verifier that is fitted to the embedder."""
        self._embedder = embedder
        self._judge = judge
        self._vectors: Kept[tuple[str, str], Vector] = Kept(VECTORS)
        self.version = f"{VERSION}/{judge.version}"
        self.error = ERROR

    async def same(self, fresh: str, stored: str, *, tenant: str) -> bool:
        """See `Comparer`."""
        a, b = plain(fresh), plain(stored)
        if a == b:
            return True
        cosine = float(await self._vector(tenant, a) @ await self._vector(tenant, b))
        (verdict,) = self._judge.judge(a, [b], [cosine])
        of = features(a, b, cosine, verdict)
        return not contradicts(a, b, of) and logit(of) >= SAME

    async def _vector(self, tenant: str, text: str) -> Vector:
        vector = self._vectors.get((tenant, text))
        if vector is None:
            vector, _ = await self._embedder.embed_one(text)
            self._vectors.keep((tenant, text), vector)
        return vector


def plain(text: str) -> str:
    """An answer without markup, its beginning, in one line."""
    text = unicodedata.normalize("NFKC", text[:LONGEST]).replace("’", "'")
    return _SPACES.sub(" ", _MARKS.sub(" ", text)).strip()


def features(a: str, b: str, cosine: float, verdict: Verdict) -> dict[str, float]:
    """What a pair of plain answers is judged by; `verdict`: that of the verifier on them, as if they were questions."""
    low_a, low_b = a.lower(), b.lower()
    words_a, words_b = _content(low_a), _content(low_b)
    shared = words_a & words_b
    numbers_a, numbers_b = numbers(low_a), numbers(low_b)
    refuses_a, refuses_b = bool(_REFUSES.search(low_a)), bool(_REFUSES.search(low_b))
    score = min(max(verdict.score or 0.0, 0.002), 0.998)
    least = max(min(len(words_a), len(words_b)), 1)
    return {
        "cosine": cosine,
        "score": math.log(score / (1 - score)) / 4,
        "within": len(shared) / least,
        "changed": min(len(words_a - words_b), len(words_b - words_a)) / least,
        "frame": len(shared) / max(len(words_a | words_b), 1) * bool(words_a - words_b) * bool(words_b - words_a),
        "numbers_differ": float(bool(numbers_a - numbers_b) and bool(numbers_b - numbers_a)),
        "number_more": float((numbers_a < numbers_b or numbers_b < numbers_a) and bool(numbers_a & numbers_b)),
        "numbers_equal": float(bool(numbers_a) and numbers_a == numbers_b),
        "one_refuses": float(refuses_a != refuses_b),
        "both_refuse": float(refuses_a and refuses_b),
        "polarity": float(_polarity(low_a) * _polarity(low_b) < 0),
        "negation": min(verdict.features.get("neg", 0.0), 1.0),
        "opposite": min(verdict.features.get("ant", 0.0), 1.0),
        "name": min(verdict.features.get("ent_sub", 0.0), 1.0),
        "short": float(least <= 2 and len(shared) == least),
    }


def contradicts(a: str, b: str, of: Mapping[str, float]) -> bool:
    """Whether two plain answers differ in what short ones are about, whatever else is alike; `of`: their features.

    Other numbers in the same words, yes and no, or the same words with and without a "not".
    """
    low_a, low_b = a.lower(), b.lower()
    words_a, words_b = _content(low_a), _content(low_b)
    # An hour of the day may be a number elsewhere: 9 am and nine.
    comparable = of["numbers_differ"] and _hours(low_a) == _hours(low_b)
    if comparable and (words_a <= words_b or words_b <= words_a):
        return True
    return bool(of["polarity"]) or (of["negation"] >= 1.0 and words_a == words_b)


def logit(of: Mapping[str, float], weights: Mapping[str, float] = WEIGHTS) -> float:
    """The log-odds that the answers say the same, where as many do as do not."""
    return weights["bias"] + math.fsum(weights[name] * value for name, value in of.items())


def _content(text: str) -> set[str]:
    words = (word for word in _WORD.findall(text) if word not in _STOP and word not in _DIGITS)
    return {_stem(word) for word in words if not word[0].isdigit()}


def _stem(word: str) -> str:
    for ending in ("ing", "ies", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) > len(ending) + 3:
            return word[: -len(ending)]
    return word


def numbers(text: str) -> set[str]:
    """The numbers in a text in lower case, each in one form: digits, hours of a day, whole months."""
    found = set()
    for number, unit in _AMOUNT.findall(_SPELLED.sub(lambda word: _DIGITS[word[0]], text)):
        plain_number = number.replace(",", "") if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", number) else number
        if ":" in plain_number or unit in {"am", "pm", "h"}:
            hour, _, minute = plain_number.partition(":")
            late = unit == "pm" and hour.isdigit() and int(hour) < 12
            found.add(f"{int(hour) + 12 if late else hour}:{minute or '00'}")
            continue
        try:
            value = float(plain_number.replace(",", "."))
        except ValueError:  # a version, or a date
            found.add(plain_number)
            continue
        found.add(f"{value * _FACTORS.get(unit, 1.0):g}")
    return found


def _hours(text: str) -> bool:
    return any(":" in number for number in numbers(text))


def _polarity(text: str) -> int:
    return 1 if _YES.search(text) else -1 if _NO.search(text) else 0
