"""How near a process is to the end of its memory, by its cgroup's limit, so that it sheds calls before it is killed.

What counts is the working set, usage less the file cache that can be dropped at once, as the kubelet counts what it
evicts by (https://kubernetes.io/docs/reference/instrumentation/node-metrics/). Without a limit nothing is shed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from services.chassis.telemetry import Telemetry

SHED_SHARE = 0.85
"""Of the limit; from here on new calls are refused."""

TAKE_SHARE = 0.80
"""Of the limit; below it they are taken again."""

LOOK_SECONDS = 0.25

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class _Files:
    """Of one version of cgroups: where usage, limit and statistics stand."""

    usage: Path
    limit: Path
    stat: Path
    inactive: str
    """The line of `stat` with the file cache that can be dropped."""

    def most(self) -> int | None:
        """The limit in bytes, if there is one."""
        text = self.limit.read_text().strip()
        # Version 1 says "none" by a number beyond all memory.
        return None if text == "max" or int(text) >= 1 << 60 else int(text)

    def share(self) -> float | None:
        """The working set by the limit; None if there is no limit."""
        most = self.most()
        if most is None:
            return None
        lines = (line.partition(" ") for line in self.stat.read_text().splitlines())
        inactive = next((int(value) for name, _, value in lines if name == self.inactive), 0)
        return max(int(self.usage.read_text()) - inactive, 0) / most


class Memory:
    """Of this process; `watch` looks again and again."""

    def __init__(self, telemetry: Telemetry, *, root: Path = ROOT, own: Path = OWN) -> None:
        """`root`: where cgroups are mounted; `own`: says which are this process's."""
        self._files = _found(root, own)
        self.short = False
        """Whether calls are to be refused."""
        self._gauge = telemetry.memory_used

    async def watch(self) -> None:
        """Until cancelled; returns at once where there is no limit."""
        while await self.look():  # noqa: ASYNC110 -- files of the kernel tell nobody when they change
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> bool:
        """See how much is used; False if there is no limit. What cannot be read now is looked at again."""
        try:
            share = await asyncio.to_thread(self._files.share) if self._files is not None else None
        except (OSError, RuntimeError):  # no descriptor or no thread is left: all the more reason to look on
            return True
        except ValueError:
            share = None
        if share is None:
            self.short = False
            return False
        self._gauge.set(share)
        self.short = share >= (TAKE_SHARE if self.short else SHED_SHARE)
        return True


def memory_limit(*, root: Path = ROOT, own: Path = OWN) -> int | None:
    """Bytes that this process's cgroup may use; None without a limit, and where it cannot be read."""
    files = _found(root, own)
    try:
        return None if files is None else files.most()
    except (OSError, ValueError):
        return None


def _found(root: Path, own: Path) -> _Files | None:
    """The files of this process's cgroup, or of the mount's root, which is its own inside a container."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return None
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers not in {"", "memory"}:
            continue
        base = root / "memory" if controllers else root
        for folder in (base / path.lstrip("/"), base):
            files = (
                _Files(
                    folder / "memory.usage_in_bytes",
                    folder / "memory.limit_in_bytes",
                    folder / "memory.stat",
                    "total_inactive_file",
                )
                if controllers
                else _Files(folder / "memory.current", folder / "memory.max", folder / "memory.stat", "inactive_file")
            )
            if files.usage.exists() and files.limit.exists():
                return files
    return None
