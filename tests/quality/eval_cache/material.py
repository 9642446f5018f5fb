"""The sets of an evaluation, and which verifier judges each question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.cache.adapters.verifier_file import SHIPPED
from tools.decision import sets
from tools.decision.sets import Pairs, Stream

PACKAGED = "packaged"
"""Name of the verifier that the package brings."""

OWN = "own"
"""Name of the set of traps and paraphrases that this project wrote."""

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


@dataclass(frozen=True)
class Preset:
    """What an entry has to reach with one verifier, and the error rate by which a caller asks for it."""

    score: float
    cosine: float
    max_error_rate: float


Presets = dict[str, Preset]
"""By name, the strictest first."""


@dataclass(frozen=True)
class Material:
    """Sets by their name and kind, as `mixed stream`; `judged` says what their figures are worth."""

    sets: dict[str, Pairs | Stream]
    judged: dict[str, str]
    verifiers: dict[str, Path | None]
    presets: dict[str, Presets]
    """Of each verifier its own: another machine fits another threshold than the packaged one has."""
    folds: dict[str, int]

    def judge(self, text: str) -> str:
        """The verifier for a question."""
        fold = self.folds.get(hashlib.sha256(text.encode()).hexdigest())
        return PACKAGED if fold is None else f"fold-{fold}"

    def rates(self) -> dict[str, float]:
        """The error rate of each preset, the same whatever the verifier."""
        (presets, *_) = self.presets.values()
        return {name: preset.max_error_rate for name, preset in presets.items()}

    def loosest(self, presets: Collection[str]) -> str:
        """Of some presets the one that serves most."""
        return max(presets, key=self.rates().__getitem__)

    def texts(self) -> list[str]:
        """All texts of all sets."""
        groups = self.sets.values()
        return [text for one in groups for text in (one.text if isinstance(one, Stream) else one.a + one.b)]


def read(data: Path, folds: Path | None, *, chosen: set[str]) -> Material:
    """Read the sets of a folder and the project's own; `chosen` names some, or is empty for all."""
    shipped = ROOT / "services" / "cache" / "verifier" / SHIPPED
    packaged = json.loads(shipped.read_text("utf-8"))
    known = {} if folds is None else json.loads((folds / "folds.json").read_text("utf-8"))
    pairs, streams = sets.read(data)
    found: dict[str, Pairs | Stream] = {f"{one.name} pairs": one for one in [*pairs, _own()]}
    found |= {f"{one.name} stream": one for one in streams}
    found = {name: one for name, one in found.items() if not chosen or chosen & {name, name.split()[0]}}
    digests = sets.digests(data)
    fitted = {name for name, digest in digests.items() if packaged["fitted"]["on"].get(name) == digest}
    material = Material(found, {}, {}, {}, known)
    for name, one in found.items():
        file = f"{name.replace(' ', '.')}.jsonl.gz"
        queries = one.text if isinstance(one, Stream) else one.b
        judges = {material.judge(text) for text in queries}
        material.verifiers.update({judge: None if judge == PACKAGED else _fold(folds, judge) for judge in judges})
        if PACKAGED not in judges:
            material.judged[name] = "out of fold"
        else:
            material.judged[name] = "IN SAMPLE" if file in fitted else "not fitted on"
    for judge, path in material.verifiers.items():
        material.presets[judge] = _presets(json.loads((path or shipped).read_text("utf-8")))
    return material


def _fold(folds: Path | None, judge: str) -> Path | None:
    return None if folds is None else folds / f"{judge}.json"


def _presets(verifier: dict[str, Any]) -> Presets:
    rates = {row["preset"]: float(row["max_error_rate"]) for row in verifier["error_rates"]}
    return {name: Preset(bar["v"], bar["cosine"], rates[name]) for name, bar in verifier["presets"].items()}


def _own() -> Pairs:
    folder = HERE.parent / "cache"
    rows = [
        json.loads(line)
        for name in ("traps", "paraphrases")
        for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()
    ]
    a, b, kinds = ([row[key] for row in rows] for key in ("a", "b", "kind"))
    return Pairs(OWN, a, b, [bool(row["label"]) for row in rows], kinds)
