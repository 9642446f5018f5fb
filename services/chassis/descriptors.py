"""File descriptors: every connection costs one, and a process that has none left can open nothing."""

from __future__ import annotations

import errno
import resource
from contextlib import suppress

WANTED = 65_536
"""More connections than one process serves. Not simply the hard limit: that may be a billion, or none."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accept(2) fails with while there is no room for one more connection, which goes on waiting."""


def raise_limit() -> None:
    """Raise this process's soft limit as far as `WANTED` and the hard limit allow; never lower it.

    The usual soft limit of 1,024 exists for programs that call select(2), which none of ours does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    # A kernel may have a lower limit than it says (macOS); then what was given has to do.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
