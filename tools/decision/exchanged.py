"""Pairs made of the questions of the sets: a word exchanged so that the answer is another, or a change that leaves it.

Sets of real questions hold few opposites, swapped roles or turned directions, and templates hold them in few
surroundings. Here they stand in the questions that people asked.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.decision.sets import Pairs

LEXICON = Path(__file__).parents[2] / "simcore" / "src" / "guard" / "lexicon"

LONGEST = 240
"""Characters of a question that is changed: in a long prompt it is luck whether a changed word matters."""

SHORTEST = 4
"""Letters of a word that is exchanged for its opposite: "off Linux" for "on Linux" is nothing that anybody asks."""

MOST = 700
"""Pairs of one kind."""

YES_OR_NO = frozenset(
    ["is", "are", "am", "was", "were", "can", "could", "may", "do", "does", "did", "will", "would", "should", "has"]
)
"""Questions that begin so ask the same when one word is turned: whether it is safe, whether it is dangerous."""

Groups = tuple[tuple[str, ...], ...]
"""Phrases of which one cannot stand for another."""

QUANTIFIERS: Groups = (
    ("all", "some", "no"),
    ("only", "also"),
    ("always", "sometimes", "never"),
    ("most", "all", "few"),
    ("any", "every"),
    ("both", "either"),
    ("at least", "at most", "exactly"),
)
DIRECTIONS: Groups = (
    ("from", "to"),
    ("before", "after"),
    ("over", "under"),
    ("with", "without"),
    ("into", "out of"),
    ("for", "against"),
    ("above", "below"),
    ("since", "until"),
    ("inside", "outside"),
)
MODALS: Groups = (("must", "may"), ("should", "can"), ("has to", "is allowed to"), ("have to", "are allowed to"))
PRONOUNS: Groups = (("his", "her", "my"), ("he", "she"), ("him", "them", "me"), ("my", "your"), ("our", "their"))
QUESTIONS: Groups = (("when", "where", "why", "how", "who"), ("how many", "which"), ("how long", "how often"))

Change = Callable[[random.Random, str], str | None]
"""Returns another question, or None where it does not apply."""


def entries(name: str) -> list[str]:
    """The lines of a word list of the guard, without its comments."""
    return [line for line in (LEXICON / name).read_text("utf-8").splitlines() if line and not line.startswith("#")]


def opposites() -> dict[str, list[str]]:
    """By word, the words that the guard lists as its opposites."""
    others: dict[str, list[str]] = defaultdict(list)
    for name in ("antonyms.txt", "opposites.txt"):
        for line in entries(name):
            words = line.split()
            if len(words) == 2:
                others[words[0]].append(words[1])
                others[words[1]].append(words[0])
    return others


def members() -> dict[str, list[str]]:
    """By member of a closed class the others, one name of each."""
    others: dict[str, list[str]] = {}
    for line in entries("classes.txt"):
        _, _, listed = line.partition(":")
        names = [member.split(",")[0].strip() for member in listed.split(";")]
        single = [name for name in names if name.isalpha() and name.islower()]  # not May, Word, C: other words, too
        others |= {name: [other for other in single if other != name] for name in single}
    return {name: found for name, found in others.items() if found}


def exchange(chance: random.Random, text: str, others: dict[str, list[str]]) -> str | None:
    """The text with one word of a list exchanged; None if it has none or asks for yes or no."""
    words = text.split()
    bare = [word.strip("?.,:").lower() for word in words]
    places = [at for at, word in enumerate(bare) if len(word) >= SHORTEST and word in others]
    if not places or bare[0] in YES_OR_NO:
        return None
    at = chance.choice(places)
    words[at] = words[at].replace(words[at].strip("?.,:"), chance.choice(others[bare[at]]))
    return " ".join(words)


def _one_of(groups: Groups) -> Change:
    """Exchanges one phrase for another of its group."""
    others: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        for phrase in group:
            others[phrase] += [other for other in group if other != phrase]
    pattern = re.compile(r"\b(" + "|".join(sorted(others, key=len, reverse=True)) + r")\b", re.IGNORECASE)

    def change(chance: random.Random, text: str) -> str | None:
        found = list(pattern.finditer(text))
        if not found:
            return None
        one = chance.choice(found)
        other = chance.choice(others[one[0].lower()])
        return text[: one.start()] + (other.capitalize() if one[0][0].isupper() else other) + text[one.end() :]

    return change


_MODAL = _one_of(MODALS)


def _obliged(chance: random.Random, text: str) -> str | None:
    # "How can I" and "how should I" ask for the same.
    return None if re.match(r"\W*(how|what|where)\b", text, re.IGNORECASE) else _MODAL(chance, text)


def _number(chance: random.Random, text: str) -> str | None:
    found = list(re.finditer(r"(?<![\w.])\d{1,6}(?![\w.])", text))
    if not found:
        return None
    one = chance.choice(found)
    value = int(one[0])
    other = chance.choice([value + 1, value + 5, value * 2, value * 10, max(value - 1, 0), value + 10])
    return text[: one.start()] + str(other if other != value else value + 2) + text[one.end() :]


def _negated(_: random.Random, text: str) -> str | None:
    found = re.search(r"\b(is|are|was|were|can|could|should|would|will|does|do|did|has|to)\b (?!not\b)", text)
    return None if found is None else f"{text[: found.start(1)]}{_denial(found[1])} {text[found.end() :]}"


def _denial(word: str) -> str:
    return "not to" if word == "to" else f"{word} not"


def _renamed(chance: random.Random, text: str) -> str | None:
    """Two names change their places, unless "and" or "or" joins them."""
    found = list(re.finditer(r"(?<=[\w,] )[A-Z][\w.+#-]*\w\b", text))
    two = [(x, y) for x, y in itertools.combinations(found, 2) if _apart(x[0], text[x.end() : y.start()], y[0])]
    if not two:
        return None
    x, y = chance.choice(two)
    return f"{text[: x.start()]}{y[0]}{text[x.end() : y.start()]}{x[0]}{text[y.end() :]}"


def _apart(x: str, between: str, y: str) -> bool:
    joined = re.search(r"\b(and|or|vs|versus|nor)\b|[,/&]", between)
    return x.lower() != y.lower() and between.strip() != "" and joined is None


def _swapped(chance: random.Random, text: str) -> str | None:
    """Two words round "to", "than", "from" … change their places; round "and" or "or" they may."""
    found = list(re.finditer(r"\b([A-Za-z]\w{2,}) (to|into|than|from|for|of|over|against) ([A-Za-z]\w{2,})\b", text))
    stop = frozenset(" ".join(entries("stop.txt")).split())
    found = [one for one in found if not {one[1].lower(), one[3].lower()} & stop]
    if not found:
        return None
    one = chance.choice(found)
    return f"{text[: one.start()]}{one[3]} {one[2]} {one[1]}{text[one.end() :]}"


def _polite(chance: random.Random, text: str) -> str:
    before = chance.choice(["", "Hi, ", "Hello! ", "Quick question: ", "Please tell me: ", "hey, "])
    after = chance.choice(["", " Thanks!", " Thank you.", " Thanks in advance", " please"])
    return f"{before}{text}{after}"


def _bare(_: random.Random, text: str) -> str:
    return re.sub(r"[?.!,]+(?=\s|$)", "", text.lower())


def _slipped(chance: random.Random, text: str) -> str | None:
    """One slip of the keyboard in a word of more than six letters."""
    found = list(re.finditer(r"\b[a-z]{7,}\b", text))
    if not found:
        return None
    one = chance.choice(found)
    at = chance.randrange(one.start() + 2, one.end() - 1)
    turned, left_out, twice = text[at + 1] + text[at] + text[at + 2 :], text[at + 1 :], text[at] + text[at:]
    return text[:at] + chance.choice([turned, left_out, twice])


@dataclass(frozen=True)
class _Kind:
    change: Change
    same: bool = False


def _kinds() -> dict[str, _Kind]:
    turned, other = opposites(), members()
    return {
        "opposite": _Kind(lambda chance, text: exchange(chance, text, turned)),
        "class": _Kind(lambda chance, text: exchange(chance, text, other)),
        "number": _Kind(_number),
        "quantifier": _Kind(_one_of(QUANTIFIERS)),
        "direction": _Kind(_one_of(DIRECTIONS)),
        "modal": _Kind(_obliged),
        "pronoun": _Kind(_one_of(PRONOUNS)),
        "question": _Kind(_one_of(QUESTIONS)),
        "negation": _Kind(_negated),
        "swap": _Kind(_swapped),
        "names": _Kind(_renamed),
        "polite": _Kind(_polite, same=True),
        "bare": _Kind(_bare, same=True),
        "slip": _Kind(_slipped, same=True),
    }


def pairs(groups: Iterable[Pairs], seed: int) -> Pairs:
    """Of each kind at most `MOST`, half of them beside the question itself, half beside its paraphrase."""
    chance = random.Random(seed)
    known = [
        (a, b)
        for group in groups
        for a, b, same in zip(group.a, group.b, group.label, strict=True)
        if same and max(len(a), len(b)) <= LONGEST
    ]
    made = Pairs("exchanged", [], [], [], [])
    for name, kind in _kinds().items():
        chance.shuffle(known)
        count = 0
        for a, b in known:
            changed = kind.change(chance, b)
            if changed is None or changed in {a, b}:
                continue
            made.a.append(b if count % 2 else a)
            made.b.append(changed)
            made.label.append(kind.same)
            made.kind.append(name)
            count += 1
            if count == MOST:
                break
    return made
