"""`<state_dir>/run/<name>.json`: where a running process can be reached; ports are free ones unless configured."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunFile:
    """What a process wrote about itself. `started_at` is in Unix seconds; addresses are `host:port`."""

    pid: int
    started_at: float
    address: str | None
    metrics: str | None
    health: str | None = None
    """Plaintext, for probes; None where `address` is plaintext."""

    @property
    def probe(self) -> str | None:
        """Where to ask for this process's health, in plaintext."""
        return self.health or self.address


def path(state_dir: Path, name: str) -> Path:
    """Where the run file of the process `name` is."""
    return state_dir / "run" / f"{name}.json"


def write(state_dir: Path, name: str, *, now: Callable[[], float] = time.time, **ports: str | None) -> Path:
    """Write this process's run file; a reader sees the old one or the new one, never a part."""
    target = path(state_dir, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {"pid": os.getpid(), **{"address": None, "metrics": None, "health": None, **ports}, "started_at": now()}
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.write_text(json.dumps(content) + "\n", encoding="utf-8")
    draft.replace(target)
    return target


def read(state_dir: Path, name: str) -> RunFile | None:
    """What is known of the process `name`, or None. The process may have died since: the file outlives a SIGKILL."""
    try:
        content = json.loads(path(state_dir, name).read_text(encoding="utf-8"))
        ports = (content.get(name) for name in ("address", "metrics", "health"))
        return RunFile(content["pid"], content["started_at"], *ports)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def remove(state_dir: Path, name: str) -> None:
    """Remove the run file if it is this process's own; a successor may have written its."""
    found = read(state_dir, name)
    if found is not None and found.pid == os.getpid():
        path(state_dir, name).unlink(missing_ok=True)
