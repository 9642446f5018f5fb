"""The evaluation sets: `*.pairs.jsonl.gz` and `*.stream.jsonl.gz` of a folder. None of their text is kept."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Pairs:
    """`a[i]` is cached, `b[i]` arrives; serving is right iff `label[i]`."""

    name: str
    a: list[str]
    b: list[str]
    label: list[bool]
    kind: list[str]


@dataclass(frozen=True)
class Stream:
    """Texts in the order of arrival; an answer may be shared iff the class is the same."""

    name: str
    text: list[str]
    cls: list[str]


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read(folder: Path) -> tuple[list[Pairs], list[Stream]]:
    """Read every set of a folder, in the order of their names. OSError if a file cannot be read."""
    pairs, streams = [], []
    for path in sorted(folder.glob("*.jsonl.gz")):
        name, kind = path.name.removesuffix(".jsonl.gz").rsplit(".", 1)
        rows = _rows(path)
        if kind == "pairs":
            columns = ([row[key] for row in rows] for key in ("a", "b", "label", "kind"))
            a, b, label, kinds = columns
            pairs.append(Pairs(name, a, b, [bool(value) for value in label], kinds))
        elif kind == "stream":
            streams.append(Stream(name, [row["text"] for row in rows], [row["cls"] for row in rows]))
    return pairs, streams


def digests(folder: Path) -> dict[str, str]:
    """The first 16 digits of every file's SHA-256, to name what was fitted on."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in sorted(folder.glob("*.jsonl.gz"))}
