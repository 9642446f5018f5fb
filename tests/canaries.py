"""Secrets that tests plant, recognisable wherever they turn up, and the search for them."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from services.chassis.auth.api_key import ApiKey, new_key

MARK = "zz9canary"
"""Part of every planted secret. Nothing else has it, so that one search finds them all."""

API_KEY = r"ap_[a-z2-7]{12}_[A-Za-z0-9_-]{43}"
"""The text of a key, planted or not."""

OUTPUT = ".output-of-process"
"""How the names of files with what processes wrote end."""


def planted(what: str) -> str:
    """Return a secret text of its own."""
    return f"{MARK}-{what}-{secrets.token_hex(8)}"


def planted_key() -> ApiKey:
    """Return an API key whose secret half is marked."""
    key = new_key()
    return ApiKey(key.id, key.text[: -len(MARK)] + MARK)


def leaks(texts: Mapping[str, str], planted_secrets: Iterable[str] = ()) -> list[str]:
    """Return where (the key of `texts`) a marked secret, an API key or a given secret is, and what stands around it."""
    secret = re.compile("|".join([MARK, API_KEY, *map(re.escape, planted_secrets)]))
    return [
        f"{where}: …{text[max(found.start() - 60, 0) : found.end() + 60]!r}…"
        for where, text in texts.items()
        if (found := secret.search(text))
    ]


def keep_output(state_dir: Path, pid: int, text: str) -> None:
    """Leave what a process wrote in its state folder, where the search at the end of all tests finds it."""
    if state_dir.is_dir():
        (state_dir / f"{pid}{OUTPUT}").write_text(text, encoding="utf-8")


def outputs(folder: Path) -> dict[str, str]:
    """What `keep_output` left at any depth of a folder, by path."""
    # Not by `rglob`, which fails when a folder is deleted meanwhile.
    paths = (Path(at, name) for at, _, names in os.walk(folder) for name in names if name.endswith(OUTPUT))
    return {str(path): path.read_text(encoding="utf-8") for path in paths}
