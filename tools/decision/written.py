"""Pairs written by hand in the voice of users (`written.jsonl`): what the sets, and the changes made of them, lack.

A line: `q`, other ways to ask it (`same`), questions that look like it and have another answer (`other`).
"""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

from tools.decision.sets import Pairs

FILE = Path(__file__).with_name("written.jsonl")


def pairs(seed: int, file: Path = FILE) -> Pairs:
    """Every wording with every other and with every question of another answer; which is cached is drawn.

    `kind` is the class and the number of the line. ValueError for a line that says the same of one text twice.
    """
    rng = random.Random(seed)
    made = Pairs("written", [], [], [], [])
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        row = json.loads(line)
        wordings, others = [row["q"], *row["same"]], row["other"]
        if len({*wordings, *others}) != len(wordings) + len(others):
            raise ValueError(f"{file.name}:{number}: a text twice")
        same = [(one, other, True) for one, other in itertools.combinations(wordings, 2)]
        different = [(one, other, False) for one, other in itertools.product(wordings, others)]
        for one, other, label in same + different:
            a, b = (one, other) if rng.random() < 0.5 else (other, one)
            made.a.append(a)
            made.b.append(b)
            made.label.append(label)
            made.kind.append(f"{row['kind']}/{number}")
    return made
