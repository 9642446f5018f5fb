"""How every command ends: one list for `--help`, the README and the code."""

from __future__ import annotations

FAILED = 1
USAGE = 2
DATA = 65
UNAVAILABLE = 69
CANNOT_WRITE = 73
CONFIG = 78
INTERRUPTED = 130

MEANINGS = {
    0: "done",
    FAILED: "a call failed; stderr says why and what to do",
    USAGE: "wrong usage",
    DATA: "a file that was given or downloaded is not what it has to be",
    UNAVAILABLE: "nothing answers at a service's address",
    CANNOT_WRITE: "a file cannot be written",
    CONFIG: "a setting, key or certificate is wrong",
    INTERRUPTED: "interrupted by Ctrl-C",
}
"""From 65 on: the numbers of `sysexits.h`, and 128 + SIGINT as shells have it."""


def table() -> str:
    """Return the list as text for the end of `--help`; `\\b` keeps click from joining its lines."""
    return "\b\nExit codes:\n" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in MEANINGS.items())
