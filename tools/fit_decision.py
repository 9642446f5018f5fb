#!/usr/bin/env python3
"""Fit the verifier of the cache: `python -m tools.fit_decision DATA --scratch FOLDER`; prints a table, JSON last.

DATA holds `*.pairs.jsonl.gz` and `*.stream.jsonl.gz`; none of it is part of the project. What such sets hardly hold is
added: the pairs of `tools/decision/templates.txt` and `written.jsonl`, and what `exchanged.py` makes of questions.
Questions that are ever paired or share a class are one cluster, a cluster is in one of five folds, and every figure is
of a verdict whose verifier did not see the query's cluster. The presets are chosen on those verdicts, so they are a
little optimistic.

`--write` replaces services/cache/verifier/minilm.json by the verifier of all folds. `--folds-to` writes `fold-0.json` …
and `folds.json` (the fold of every text, by the SHA-256 of the text) for an evaluation through the service.
The scratch folder keeps embeddings between runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simcore import GUARD_VERSION
from tools.decision import boosting, calibrating, examples, exchanged, replay, sets, templates, trees, vectors, written
from tools.decision.examples import NAMES, Examples, Floats, Ints
from tools.decision.replay import Result, Rule

TARGET = Path(__file__).parents[1] / "services" / "cache" / "verifier" / "minilm.json"
FOLDS, SEED = 5, 1

WEIGHTS = {
    "pairs": {"qqp": 3.0, "mqp": 1.0, "gptcache_mock": 0.7, "adversarial": 6.0, "real_edits": 6.0, "longctx": 2.0}
    | {"checklist": 2.0, "paws_qqp": 2.0, "squad_para": 7.0, "templates": 15.0, "exchanged": 6.0, "written": 20.0},
    "stream": {"mixed": 4.0, "qqp": 2.0, "banking77": 0.5, "clinc150": 0.5, "covidq": 1.0, "adversarial": 2.0}
    | {"arena_hard": 0.5},
}
"""By set, in units of `UNIT` rows: what a cache meets and traps weigh much, intents and noisy labels little."""
UNIT = 3_000.0
FAR, FAR_WEIGHT = 0.7, 0.3
"""Pairs below this cosine are never served; they only show which way things go."""

COSINES = (0.95, 0.92, 0.80)


@dataclass(frozen=True)
class Wanted:
    """What a preset has to keep: per cent of wrong hits of `mixed`, and per cent of traps of sets of pairs."""

    error_rate: float
    wrong: float
    traps: dict[str, float]


PRESETS = {
    "strict": Wanted(0.01, 1.2, {"real_edits": 0.2, "templates": 0.5, "written": 1.7, "paws_qqp": 3.0}),
    "default": Wanted(0.02, 1.8, {"real_edits": 0.4, "templates": 0.8, "written": 2.5, "paws_qqp": 3.3}),
    "balanced": Wanted(0.03, 3.0, {"real_edits": 0.5, "templates": 3.0, "written": 6.5, "paws_qqp": 8.0}),
    "loose": Wanted(0.05, 4.5, {"real_edits": 2.4, "templates": 8.5, "written": 15.5, "paws_qqp": 12.0}),
}
V_GRID, COSINE_GRID = np.arange(0.50, 0.985, 0.01), np.arange(0.82, 0.955, 0.01)


@dataclass
class Measured:
    """A set with its features, and the verdicts about it out of fold."""

    examples: Examples
    stream: sets.Stream | None
    near: list[list[tuple[int, int]]]
    v: Floats

    @property
    def kind(self) -> str:
        return "stream" if self.stream else "pairs"

    def weight(self) -> Floats:
        """The weight of every row; only neighbours that the cache would look at count."""
        e = self.examples
        weight = np.where(e.cosine > FAR, 1.0, FAR_WEIGHT)
        total = weight.sum()
        if self.stream:
            weight = weight * np.array([int(rank) < replay.LOOKED_AT for rank in e.kind], float)
        return np.asarray(weight * (WEIGHTS[self.kind].get(e.name, 1.0) * UNIT / max(float(total), 1.0)))

    def result(self, rule: Rule, *, cosine_only: bool = False) -> Result:
        v = np.ones(len(self.v)) if cosine_only else self.v
        if self.stream:
            return replay.stream(self.stream, self.examples, self.near, v, rule)
        return replay.pairs(self.examples, v, rule)


def measure(data: Path, scratch: Path) -> tuple[list[Measured], examples.Texts, str]:
    """Read, embed, compare: every set with its features, the clusters, and the embedder's identity."""
    pairs, streams = sets.read(data)
    pairs += [exchanged.pairs(pairs, SEED), templates.pairs(SEED), written.pairs(SEED)]
    texts = [text for group in pairs for text in group.a + group.b] + [t for stream in streams for t in stream.text]
    rows = vectors.embedded(scratch, texts)
    clusters = examples.cluster(pairs, streams)
    measured = []
    for group in pairs:
        found = examples.of_pairs(group, clusters, rows)
        measured.append(Measured(found, None, [], np.zeros(len(found.label))))
    for stream in streams:
        found, near = examples.of_stream(stream, clusters, rows)
        measured.append(Measured(found, stream, near, np.zeros(len(found.label))))
    return measured, clusters, rows.identity


def train(measured: list[Measured], keep: dict[int, Any] | None = None) -> list[trees.Tree]:
    """Trees for the rows that `keep` names by set, or for all."""
    parts = [(m.examples.x, m.examples.label, m.weight()) for m in measured]
    rows = [np.ones(len(w), bool) if keep is None else keep[i] for i, (_, _, w) in enumerate(parts)]
    chosen = [row & (w > 0) for row, (_, _, w) in zip(rows, parts, strict=True)]
    x, y, weight = (np.concatenate([part[i][row] for part, row in zip(parts, chosen, strict=True)]) for i in range(3))
    return boosting.fit(x, y, weight)


def out_of_fold(measured: list[Measured], fold: Ints) -> list[list[trees.Tree]]:
    """One verifier per fold, and their verdicts about it."""
    verifiers = []
    for k in range(FOLDS):
        sides = [(fold[m.examples.cached], fold[m.examples.query]) for m in measured]
        fitted = train(measured, {i: (a != k) & (b != k) for i, (a, b) in enumerate(sides)})
        for m, (_, query) in zip(measured, sides, strict=True):
            own = query == k
            m.v[own] = trees.evaluate(fitted, m.examples.x[own])
        verifiers.append(fitted)
    return verifiers


def choose(measured: list[Measured]) -> dict[str, Rule]:
    """For each preset the rule with the most hits of `mixed` among those that keep what is wanted."""
    by_name = {(m.kind, m.examples.name): m for m in measured}
    mixed = by_name["stream", "mixed"]
    tried = []
    for v in V_GRID:
        for cosine in COSINE_GRID:
            rule = Rule(round(float(v), 2), round(float(cosine), 2))
            traps = {name: by_name["pairs", name].result(rule).bad for name in PRESETS["default"].traps}
            tried.append((rule, mixed.result(rule), traps))
    chosen: dict[str, Rule] = {}
    for name in ("default", "strict", "balanced", "loose"):
        wanted = PRESETS[name]
        kept = [
            (result.good, rule.v, rule)
            for rule, result, traps in tried
            if result.bad <= wanted.wrong
            and all(traps[of] <= most for of, most in wanted.traps.items())
            and _ordered(name, rule, chosen)
        ]
        if not kept:
            raise RuntimeError(f"no rule keeps what the preset {name} wants")
        chosen[name] = max(kept, key=lambda found: found[:2])[2]
    return {name: chosen[name] for name in PRESETS}


def _ordered(name: str, rule: Rule, chosen: dict[str, Rule]) -> bool:
    """A looser preset serves all that a stricter one does; the default is chosen first, the others around it."""
    order = list(PRESETS)
    for other, bars in chosen.items():
        strict, loose = (rule, bars) if order.index(name) < order.index(other) else (bars, rule)
        if strict.v < loose.v or strict.cosine < loose.cosine:
            return False
    return True


def calibrate(measured: list[Measured], lowest: float) -> tuple[list[float], list[float]]:
    """p_wrong by V on the nearest neighbours of streams that some preset may serve, the sets weighted equally."""
    parts = []
    for m in measured:
        near = m.examples.cosine >= lowest
        if m.stream and near.any():
            near &= np.array([rank == "0" for rank in m.examples.kind])
            parts.append((m.v[near], ~m.examples.label[near], np.full(int(near.sum()), 2_000.0 / near.sum())))
    v, wrong, weight = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return calibrating.isotonic(v, wrong.astype(float), weight)


def verifier(model: list[trees.Tree], shared: dict[str, Any], fitted: dict[str, Any]) -> dict[str, Any]:
    """The file of a verifier; inputs that no tree reads are left out."""
    used = sorted({feature for tree in model for feature in tree["feature"]})
    place = {feature: at for at, feature in enumerate(used)}
    compact = [{**tree, "feature": [place[feature] for feature in tree["feature"]]} for tree in model]
    names = [NAMES[feature] for feature in used]
    return {**shared, "features": names, "bias": 0.0, "trees": compact, "fitted": fitted}


def write(path: Path, content: dict[str, Any]) -> None:
    """One line per member and per tree, so that a change can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def dense(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    lines = []
    for name, value in content.items():
        text = dense(value)
        if name == "trees":
            text = "[\n    " + ",\n    ".join(dense(tree) for tree in value) + "\n  ]"
        lines.append(f"  {json.dumps(name)}: {text}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def report(measured: list[Measured], rules: dict[str, Rule]) -> dict[str, dict[str, Result]]:
    """Per set: cosine thresholds alone, then every preset."""
    table: dict[str, dict[str, Result]] = {}
    for m in measured:
        cells = {f"cosine {c}": m.result(Rule(0.0, c), cosine_only=True) for c in COSINES}
        cells |= {name: m.result(rule) for name, rule in rules.items()}
        table[f"{m.examples.name} {m.kind}"] = cells
    return table


def show(table: dict[str, dict[str, Result]]) -> None:
    """Streams: hit / wrong; pairs: recall / trap; all in per cent, out of fold."""
    for at, (name, cells) in enumerate(table.items()):
        if at == 0:
            sys.stdout.write(f"{'out of fold':22}" + "".join(f"{column:>14}" for column in cells) + "\n")
        row = "".join(f"{f'{cell.good:.1f}/{cell.bad:.1f}':>14}" for cell in cells.values())
        sys.stdout.write(f"{name:22}{row}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for embeddings")
    parser.add_argument("--write", action="store_true", help=f"replace {TARGET.name}")
    parser.add_argument("--folds-to", type=Path, help="folder for one verifier per fold")
    arguments = parser.parse_args()
    measured, clusters, identity = measure(arguments.data, arguments.scratch)
    fold = clusters.folds(FOLDS, SEED)
    per_fold = out_of_fold(measured, fold)
    rules = choose(measured)
    place, p_wrong = calibrate(measured, min(rule.cosine for rule in rules.values()))
    table = report(measured, rules)
    show(table)
    shared = {
        "format": "antiphon-verifier",
        "version": 1,
        "embedder": identity,
        "guard": GUARD_VERSION,
        "presets": {name: asdict(rule) for name, rule in rules.items()},
        "error_rates": [{"max_error_rate": PRESETS[name].error_rate, "preset": name} for name in rules],
        "calibration": {"v": place, "p_wrong": p_wrong},
    }
    figures = {
        name: {column: [round(cell.good, 1), round(cell.bad, 1)] for column, cell in cells.items()}
        for name, cells in table.items()
    }
    fitted = {"by": "tools/fit_decision.py", "on": sets.digests(arguments.data), "out_of_fold": figures}
    if arguments.write:
        write(TARGET, verifier(train(measured), shared, fitted))
    if arguments.folds_to:
        for k, model in enumerate(per_fold):
            write(arguments.folds_to / f"fold-{k}.json", verifier(model, shared, {"by": fitted["by"], "fold": k}))
        of_text = {hashlib.sha256(t.encode()).hexdigest(): int(fold[at]) for t, at in clusters.number.items()}
        (arguments.folds_to / "folds.json").write_text(json.dumps(of_text), encoding="utf-8")
    sys.stdout.write(json.dumps({"presets": shared["presets"], "out_of_fold": figures}) + "\n")


if __name__ == "__main__":
    main()
