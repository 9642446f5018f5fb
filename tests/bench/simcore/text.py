"""Embeddings of real texts, made once by `embed.py` and kept beside the installed peers."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.bench.simcore import sentences
from tests.bench.simcore.exact import Data

ROOT = Path(__file__).parents[3]


def cache(texts: Path | None) -> Path:
    """The file for these texts; how they are chosen and edited is part of its name."""
    digest = hashlib.sha256(Path(sentences.__file__).read_bytes())
    if texts:
        digest.update(texts.read_bytes())
    return Path(sys.prefix) / f"text-{texts.stem if texts else 'docstrings'}-{digest.hexdigest()[:12]}.npz"


def load(texts: Path | None, python: Path) -> Data:
    """The vectors of these texts, or else of sentences of docstrings; `python` embeds them if there is no file yet."""
    file = cache(texts)
    if not file.exists():
        command = [str(python), "-m", "tests.bench.simcore.embed", str(file)]
        command += ["--texts", str(texts.absolute())] if texts else []
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise SystemExit(
                "the part `text` needs embeddings; `make model` gets the model, --only leaves the part out"
            )
    with np.load(file) as arrays:
        rows, queries, kind = arrays["rows"], arrays["queries"], arrays["kind"]
        embedder = str(arrays["embedder"])
    what = f"texts of {texts.name}" if texts else "sentences of docstrings"
    print(f"\n{len(rows):,} {what} and {len(queries):,} queries, {rows.shape[1]} dimensions, by {embedder}; in {file}")
    return Data(rows, queries, kind, sentences.KINDS, what=what)
