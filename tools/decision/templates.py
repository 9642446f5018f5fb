"""Pairs made of `templates.txt`: wordings that share an answer, and values that forbid it."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tools.decision.sets import Pairs

FILE = Path(__file__).with_name("templates.txt")

MOST = 36
"""Pairs of either label that one block gives: more say nothing new."""


@dataclass
class Block:
    """A family, slots and wordings."""

    family: str
    slots: dict[str, list[str]] = field(default_factory=dict)
    wordings: list[str] = field(default_factory=list)


def blocks(file: Path = FILE) -> Iterator[Block]:
    """Read a file. ValueError if a wording names a slot that its block does not have."""
    block: Block | None = None
    for raw in file.read_text("utf-8").splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]") and "|" not in line:
            if block:
                yield block
            block = Block(line.strip("[]"))
        elif block and line.startswith("= "):
            missing = set(re.findall(r"{([^}]+)}", line)) - set(block.slots)
            if missing:
                raise ValueError(f"{file.name}: {line!r} names {sorted(missing)}")
            block.wordings.append(line[2:])
        elif block:
            name, values = line.split(": ", 1)
            block.slots[name] = ["" if value.strip() == "-" else value.strip() for value in re.split(r" \| ", values)]
    if block:
        yield block


def fill(wording: str, values: dict[str, str]) -> str:
    """The wording with its slots filled and no spaces left over."""
    for name, value in values.items():
        wording = wording.replace("{" + name + "}", value)
    wording = re.sub(r" +", " ", wording).strip()
    return re.sub(r" ([?.,:])", r"\1", wording)


def pairs(seed: int) -> Pairs:
    """All blocks' pairs; `kind` is the family and the number of the block, by which folds may be made."""
    rng = random.Random(seed)
    made = Pairs("templates", [], [], [], [])
    for number, block in enumerate(blocks()):
        found: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}
        combined = [dict(zip(block.slots, v, strict=True)) for v in itertools.product(*block.slots.values())]
        if block.family.endswith("swap"):
            combined = [values for values in combined if values["a"] != values["b"]]
        for left, right in itertools.product(combined, repeat=2):
            changed = [name for name in left if left[name] != right[name]]
            strict = [name for name in changed if not name.endswith("*")]
            exchanged = block.family.endswith("swap") and (left["a"], left["b"]) == (right["b"], right["a"])
            if len(strict) > 1 and not exchanged:
                continue
            for one, other in itertools.product(block.wordings, repeat=2):
                a, b = fill(one, left), fill(other, right)
                if a != b:
                    found[not strict].add((a, b))
        for label, texts in found.items():
            for a, b in rng.sample(sorted(texts), min(MOST, len(texts))):
                made.a.append(a)
                made.b.append(b)
                made.label.append(label)
                made.kind.append(f"{block.family}/{number}")
    return made
