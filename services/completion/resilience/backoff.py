"""How long to wait before the same server is asked again."""

from __future__ import annotations

from random import Random

FIRST_SECONDS = 0.1
MOST_SECONDS = 2.0


def full_jitter(failures: int, rng: Random) -> float:
    """Return the seconds before the next try after so many failures, 1 or more.

    Uniform between nothing and a bound that doubles: those who failed together do not come back together ("Exponential
    Backoff and Jitter", AWS Architecture Blog, 2015).
    """
    return rng.uniform(0.0, min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 30)))
