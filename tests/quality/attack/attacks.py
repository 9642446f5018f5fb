"""Near misses against what a victim stored: shaped like paraphrases, with another intent.

The victim's questions come from frames.txt. A near miss takes another value in another wording, swaps two values, or
exchanges a word for its opposite or for another member of its class by the guard's own word lists; some come with a
greeting or thanks. None asks what is stored, so every answer that is served to one is wrong. The `attack` pairs of
tests/quality/cache are added.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tools.decision.templates import Block, blocks, fill

HERE = Path(__file__).resolve().parent
LEXICON = HERE.parents[2] / "simcore" / "src" / "guard" / "lexicon"

MOST_OF_A_FRAME = 12
"""Questions of one frame that the victim has, and at most half of all: the others are asked for."""

BEFORE = ("", "", "", "Hi! ", "Quick question: ", "Please help me: ", "hey, ")
AFTER = ("", "", "", " Thanks!", " Please be brief.", " thank you")

SHORTEST = 4
"""Letters of a word that is exchanged: "off Linux" for "on Linux" is nothing that anybody asks."""

YES_OR_NO = frozenset(["is", "are", "am", "can", "could", "may", "do", "does", "did", "will", "would", "should", "at"])
"""Questions that begin so ask the same when one word is turned: whether it is safe, whether it is dangerous."""

Intent = tuple[int, tuple[str, ...]]


@dataclass(frozen=True)
class Attack:
    """A question that asks for nothing that is stored."""

    kind: str
    text: str


@dataclass(frozen=True)
class Assault:
    """What the victim stored, the same questions in other words, and the near misses."""

    stored: list[str]
    paraphrases: list[str]
    attacks: list[Attack]


def assault(seed: int, count: int) -> Assault:
    """`count` different near misses."""
    chance = random.Random(seed)
    frames = list(blocks(HERE / "frames.txt"))
    texts: dict[str, Intent] = {}
    victims: dict[Intent, str] = {}
    for at, frame in enumerate(frames):
        filled = [(at, values) for values in itertools.product(*frame.slots.values())]
        texts |= {_plain(_text(frame, w, intent)): intent for intent in filled for w in frame.wordings}
        for intent in chance.sample(filled, min(MOST_OF_A_FRAME, len(filled) // 2)):
            victims[intent] = _text(frame, chance.choice(frame.wordings), intent)
    pairs = _written()
    stored = list(victims.values()) + [a for a, _ in pairs]
    forbidden = {_plain(text) for text in stored} | {text for text, intent in texts.items() if intent in victims}
    attacks = {_plain(b): Attack("written", b) for _, b in pairs}
    makers = (_other_value, _other_value, _swapped, _Exchange(_opposites(), "opposite"), _Exchange(_classes(), "class"))
    chosen = list(victims)
    while len(attacks) < count:
        intent = chance.choice(chosen)
        made = chance.choice(makers)(chance, frames[intent[0]], intent)
        if made is not None and _plain(made.text) not in forbidden:
            text = f"{chance.choice(BEFORE)}{made.text}{chance.choice(AFTER)}"
            attacks.setdefault(_plain(text), Attack(made.kind, text))
    other = [_text(frames[at], chance.choice(frames[at].wordings), (at, values)) for at, values in chosen]
    reworded = [text for text, asked in zip(other, victims.values(), strict=True) if text != asked]
    return Assault(stored, reworded, list(attacks.values())[:count])


def _text(frame: Block, wording: str, intent: Intent) -> str:
    return fill(wording, dict(zip(frame.slots, intent[1], strict=True)))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _written() -> list[tuple[str, str]]:
    lines = (HERE.parent / "cache" / "traps.jsonl").read_text("utf-8").splitlines()
    return [(row["a"], row["b"]) for row in map(json.loads, lines) if row["kind"] == "attack"]


def _other_value(chance: random.Random, frame: Block, intent: Intent) -> Attack | None:
    """One slot has another value; the wording is any."""
    at, values = intent
    slot = chance.randrange(len(values))
    choices = [value for value in list(frame.slots.values())[slot] if value != values[slot]]
    changed = (*values[:slot], chance.choice(choices), *values[slot + 1 :])
    return Attack("value", _text(frame, chance.choice(frame.wordings), (at, changed)))


def _swapped(chance: random.Random, frame: Block, intent: Intent) -> Attack | None:
    """`from` and `to` have changed their values."""
    at, values = intent
    named = dict(zip(frame.slots, values, strict=True))
    if "from" not in named or "to" not in named:
        return None
    named["from"], named["to"] = named["to"], named["from"]
    return Attack("swap", _text(frame, chance.choice(frame.wordings), (at, tuple(named.values()))))


class _Exchange:
    """One word is exchanged for another of a word list."""

    def __init__(self, others: dict[str, list[str]], kind: str) -> None:
        self._others = others
        self._kind = kind

    def __call__(self, chance: random.Random, frame: Block, intent: Intent) -> Attack | None:
        words = _text(frame, chance.choice(frame.wordings), intent).split()
        bare_words = [word.strip("?.,:").lower() for word in words]
        places = [at for at, word in enumerate(bare_words) if len(word) >= SHORTEST and word in self._others]
        if not places or bare_words[0] in YES_OR_NO:
            return None
        at = chance.choice(places)
        bare = words[at].strip("?.,:")
        words[at] = words[at].replace(bare, chance.choice(self._others[bare.lower()]))
        return Attack(self._kind, " ".join(words))


def _opposites() -> dict[str, list[str]]:
    others: dict[str, list[str]] = defaultdict(list)
    for name in ("antonyms.txt", "opposites.txt"):
        for line in _lines(name):
            words = line.split()
            if len(words) == 2:
                others[words[0]].append(words[1])
                others[words[1]].append(words[0])
    return others


def _classes() -> dict[str, list[str]]:
    """One name for each member of a class; other names of the same member are not exchanged for each other."""
    others: dict[str, list[str]] = {}
    for line in _lines("classes.txt"):
        _, _, members = line.partition(":")
        names = [member.split(",")[0].strip() for member in members.split(";")]
        single = [name for name in names if name.isalpha() and name.islower()]  # not May, Word, C: other words, too
        others |= {name: [other for other in single if other != name] for name in single}
    return {name: found for name, found in others.items() if found}


def _lines(name: str) -> list[str]:
    lines = (LEXICON / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
