"""Sentences that every machine has: those of the docstrings of its Python and of the installed packages."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import random
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SHORTEST, LONGEST = 4, 40
"""Words of a sentence."""
KINDS = ("held-out sentence", "edited sentence", "stored sentence")
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests"}
"""Folders below the roots: packages of other environments, and tests, which some systems package apart."""
_PARAGRAPHS = re.compile(r"\n\s*\n")
_ENDS = re.compile(r"(?<=[.!?])\s+")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Texts:
    """What is stored, and what is asked."""

    stored: list[str]
    queries: list[str]
    kind: list[int]
    """Of each query, an index of `KINDS`."""


def of_docstring(docstring: str) -> Iterator[str]:
    """Its sentences of `SHORTEST` to `LONGEST` words, each in one line; no headings, fields or examples."""
    for paragraph in _PARAGRAPHS.split(docstring):
        if ">>>" in paragraph:
            continue
        for sentence in _ENDS.split(" ".join(paragraph.split())):
            whole = sentence[:1].isalpha() and sentence.endswith((".", "!", "?")) and sentence.isprintable()
            if whole and SHORTEST <= len(sentence.split()) <= LONGEST:
                yield sentence


def of_source(source: bytes) -> Iterator[str]:
    """Sentences of all docstrings of a module; none if it is not for this Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            yield from of_docstring(ast.get_docstring(node) or "")


def roots() -> list[Path]:
    """Where this environment keeps the standard library and installed packages."""
    paths = sysconfig.get_paths()
    return sorted({Path(paths[name]) for name in ("stdlib", "purelib", "platlib")})


def of_folders(folders: Iterable[Path]) -> Iterator[str]:
    """Sentences of all modules below the folders."""
    for root in folders:
        for folder, names, files in os.walk(root):
            names[:] = [name for name in names if name not in _LEFT_OUT]
            for name in files:
                if name.endswith(".py"):
                    yield from of_source((Path(folder) / name).read_bytes())


def of_file(file: Path) -> Iterator[str]:
    """One text a line, or JSON lines with `text`."""
    for line in file.read_text().splitlines():
        text = json.loads(line)["text"] if line.startswith("{") else line
        if text.strip():
            yield text.strip()


def sample(texts: Iterable[str], limit: int | None = None) -> list[str]:
    """Different texts, `limit` at most, in the order of their digests: a sample of all, whatever order they come in."""
    return sorted(set(texts), key=lambda text: hashlib.sha256(text.encode(errors="replace")).digest())[:limit]


def edited(sentence: str, words: Sequence[str], rng: random.Random) -> str:
    """The sentence with one word dropped, replaced by one of `words`, or swapped with the next; never as it was."""
    own = sentence.split()
    if len(own) < 2:
        raise ValueError("one word is too few to edit")
    while True:
        at = rng.randrange(len(own) - 1)
        changed = {
            "drop": own[:at] + own[at + 1 :],
            "replace": [*own[:at], rng.choice(words), *own[at + 1 :]],
            "swap": [*own[:at], own[at + 1], own[at], *own[at + 2 :]],
        }[rng.choice(("drop", "replace", "swap"))]
        if changed != own:
            return " ".join(changed)


def split(texts: list[str], queries: int, seed: int) -> Texts:
    """Half of the queries are the first texts, held out; a quarter edits of stored ones, a quarter stored ones."""
    held, edits = queries // 2, queries // 4
    if len(texts) < 2 * queries:
        raise ValueError(f"{len(texts):,} different texts are too few for {queries:,} queries")
    stored = texts[held:]
    rng = random.Random(seed)
    chosen = rng.sample([text for text in stored if len(text.split()) > 1], queries - held)
    words = sorted({word for text in chosen for word in text.split()})
    asked = [(text, 0) for text in texts[:held]]
    asked += [(edited(text, words, rng), 1) for text in chosen[:edits]]
    asked += [(text, 2) for text in chosen[edits:]]
    rng.shuffle(asked)
    return Texts(stored, [text for text, _ in asked], [kind for _, kind in asked])
