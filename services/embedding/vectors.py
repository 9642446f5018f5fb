"""The one gate through which vectors enter the suite."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import Reason, Unavailable


def unit_rows(rows: NDArray[np.floating], *, count: int, dim: int) -> NDArray[np.float32]:
    """`rows` with every row scaled to length 1; anything but `(count, dim)` finite non-zero rows is `Unavailable`.

    A vector of another model, or a broken one, would poison the index quietly: its similarities look like any others.
    """
    if rows.ndim == 2 and rows.shape[0] == count and rows.shape[1] != dim:
        what = f"the embedder answered with vectors of {rows.shape[1]:,} numbers instead of {dim:,}"
        raise Unavailable(what, reason=Reason.EMBEDDER_DIMENSION)
    if rows.shape != (count, dim):
        raise _refused(f"answered with vectors of shape {rows.shape} instead of {(count, dim)}")
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    # NaN and Inf spread into the length, and a huge row overflows it.
    if not np.all(np.isfinite(lengths)) or np.any(lengths == 0):
        raise _refused("answered with a vector that is not finite or has no direction")
    return np.asarray(wide / lengths, dtype=np.float32)


def _refused(what: str) -> Unavailable:
    return Unavailable(f"the embedder {what}", reason=Reason.EMBEDDER_UNAVAILABLE)
