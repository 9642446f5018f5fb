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
from dataclasses import dataclass
from pathlib import Path

from tools.decision import exchanged
from tools.decision.templates import Block, blocks, fill

HERE = Path(__file__).resolve().parent

MOST_OF_A_FRAME = 12
"""Questions of one frame that the victim has, and at most half of all: the others are asked for."""

BEFORE = ("", "", "", "Hi! ", "Quick question: ", "Please help me: ", "hey, ")
AFTER = ("", "", "", " Thanks!", " Please be brief.", " thank you")

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
    opposite, member = _Exchange(exchanged.opposites(), "opposite"), _Exchange(exchanged.members(), "class")
    makers = (_other_value, _other_value, _swapped, opposite, member)
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
        made = exchanged.exchange(chance, _text(frame, chance.choice(frame.wordings), intent), self._others)
        return None if made is None else Attack(self._kind, made)
