"""How a text longer than the encoder's window becomes one vector.

*Body*: as few full windows as cover the text, at equal distances; the first begins with the text, the last ends with
it, neighbours overlap. Nothing is cut, and a question at the end is read with the longest context the encoder can see.
*Edges*: the first and the last `EDGE_PIECES` pieces once more, each alone. What a long prompt asks for stands at its
beginning or its end, and there it must outweigh the material that prompts share.

The vector is the normalized sum of three unit vectors: the mean of the body, the first edge, the last edge. The scheme
was chosen among 13 on 154 pairs of long prompts that share their material. On 220 other pairs (window 128), a cosine
of 0.95 is reached by 88 % of those that ask something else when the body alone counts, by 42 % with the edges, and by
100 % and 99 % of those that ask the same. At 0.92 it is still 57 % (97 % without edges): for long prompts a cosine is
no proof that the question is the same, whatever the threshold. What tells them apart is the verifier, or the guard,
which read the texts: of 80 such pairs of several windows of 256 that ask something else either serves none, of 80 that
ask the same the verifier serves 97.5 % (every preset, out of fold), the guard alone 74 %. With the verifier nine other
schemes, from the first window alone to twice the last edge, serve 96 % to 97.5 % and at most 2.5 % traps; none has
more of the one or less of the other than this one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOWS_REVISION = 1
"""Part of every local embedder's identity: raised with any change of what this module computes."""

EDGE_PIECES = 24
"""About the length of a question; 48 and 96 told questions apart less well."""

Span = tuple[int, int]


def spans(pieces: int, capacity: int) -> list[Span]:
    """Half-open ranges of at most `capacity` pieces: one if all fit, otherwise those of the body and the two edges."""
    if pieces <= capacity:
        return [(0, pieces)]
    count = body_windows(pieces, capacity)
    last = pieces - capacity
    starts = [index * last // (count - 1) for index in range(count)]
    edge = min(EDGE_PIECES, capacity)
    return [*((start, start + capacity) for start in starts), (0, edge), (pieces - edge, pieces)]


def body_windows(pieces: int, capacity: int) -> int:
    """How many windows the body of a text has; the two edges come on top when there is more than one."""
    return max(1, -(-pieces // capacity))


def combine(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """One unit vector from the unit vectors of a text's `spans`, in their order; zeros if they cancel out."""
    if len(rows) == 1:
        return np.asarray(rows[0], np.float32)
    wide = rows.astype(np.float64)
    return np.asarray(_unit(_unit(wide[:-2].sum(axis=0)) + wide[-2] + wide[-1]), np.float32)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), np.finfo(np.float64).tiny))
