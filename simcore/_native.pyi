from collections.abc import Sequence
from os import PathLike
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DIRECTIONS",
    "FEATURES",
    "GUARD_VERSION",
    "Guard",
    "GuardReport",
    "Index",
    "IndexPoisoned",
    "IndexQuarantined",
    "Judgement",
    "Verifier",
    "compare",
]

GUARD_VERSION: Final[int]
"""Changes whenever the same two texts may give other features; a verifier names the version it was fitted with."""

FEATURES: Final[tuple[str, ...]]
"""Names of the guard's features, in the order of `Guard.measure`'s columns; src/guard/features.rs defines them."""

DIRECTIONS: Final[tuple[str, ...]]
"""Which way a verdict may move when a feature grows: "up" towards serving, "down" away from it, "free" either way."""

class IndexPoisoned(RuntimeError):
    """An internal fault, reported to one caller; the index is quarantined and must be rebuilt."""

class IndexQuarantined(IndexPoisoned):
    """An earlier call hit an internal fault; the index must be rebuilt."""

@final
class Index:
    """Exact cosine search over groups of vectors; safe to use from many threads.

    The score of a row is the `f32` of the dot product of the normalised query and the stored, normalised `f32` row:
    lane `j` of eight adds the exact `f64` products at `j, j + 8, …` in this order, the lanes are then added as
    `((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7))`. Normalising is `f32(x / sqrt(dot(x, x)))` with the same dot product.
    Results are ordered by score descending, then id ascending.

    A call that changes the index is seen wholly or not at all, and not at all if it raises. A search works on one
    consistent state and never waits for a change in progress. The GIL is released for everything that takes longer
    than a few microseconds. Arrays must be aligned and C-contiguous.

    Raises ValueError for wrong values, dtypes, shapes and lengths, TypeError for what is no array or number at all,
    OSError from `save` and `load`, IndexPoisoned once and IndexQuarantined from then on after an internal fault.
    """

    def __new__(cls, dim: int, *, threads: int = 1) -> Index:
        """Make an empty index.

        dim is 1 … 65,536. threads (1 … 256) is how many one large search may use.
        """

    def upsert(
        self,
        ids: NDArray[np.uint64],
        vectors: NDArray[np.float32],
        *,
        groups: NDArray[np.uint32] | int = 0,
        expires_at: NDArray[np.float64] | float = ...,
    ) -> None:
        """Insert or replace rows by id; of several rows with one id the last wins.

        vectors is (n, dim) and is normalised; NaN, infinities and zero vectors are refused. A replaced row moves to
        its new group. expires_at is in Unix seconds; the default is infinity. The id 2**64-1 is reserved.
        The call needs memory for a copy of vectors: load large sets in parts.
        """

    def remove(self, ids: NDArray[np.uint64]) -> int:
        """Remove rows by id and return how many there were; unknown ids are ignored."""

    def remove_group(self, group: int) -> int:
        """Remove all rows of a group and return how many there were."""

    def remove_expired(self, now: float, *, limit: int = 4096) -> int:
        """Remove at most limit rows that are dead at now and return how many; fewer than limit if that was all.

        Searches skip such rows anyway; this gives their memory back, in steps as small as the caller likes.
        """

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        now: float,
        threshold: float = -1.0,
        groups: NDArray[np.uint32] | int = 0,
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """Find the best k rows of each query's group.

        Returns ids and scores of shape (q, k), best first; cells without a row hold id 2**64-1 and score -inf.
        A row is found iff expires_at > now and score >= threshold, compared exactly. q * k is at most 2**26.
        """

    def __len__(self) -> int:
        """Count the rows, expired ones included."""

    def stats(self) -> dict[str, int]:
        """Return dim, entries (expired ones included), groups, blocks, bytes (of memory) and threads."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write the index to a file, atomically and durably; changes may go on meanwhile."""

    @staticmethod
    def load(path: str | PathLike[str]) -> Index:
        """Read a file that `save` wrote; a torn, damaged or foreign one is a ValueError."""

    def _inject_panic(self) -> None:
        """Test hook: the next search or change panics, a change in its middle."""

    def _inject_poison(self) -> None:
        """Test hook: a thread panics while it holds the lock that searches take for a moment."""

@final
class GuardReport:
    """What the guard found in one pair of texts."""

    @property
    def version(self) -> int:
        """The version of the guard that made this report."""

    @property
    def features(self) -> dict[str, float]:
        """Every feature by its name."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """The names of the differences that speak against sharing an answer, each once, in a fixed order."""

@final
class Guard:
    """A text that was read once, to be compared with many.

    Any text is taken, reading is linear in its length, and the same two texts always give the same features. The GIL is
    released for texts longer than about a thousand bytes. Raises TypeError for what is no text, UnicodeEncodeError (a
    ValueError) for one with lone surrogates.
    """

    def __new__(cls, query: str) -> Guard:
        """Read a text."""

    def compare(self, cached: str) -> GuardReport:
        """Compare the text with a cached one."""

    def measure(self, cached: Sequence[str]) -> NDArray[np.float32]:
        """Return the features of the text and each of the cached ones, (n, features), columns as in `FEATURES`."""

def compare(query: str, cached: str) -> GuardReport:
    """Compare a query with a cached text.

    Raises TypeError for what is no text, UnicodeEncodeError (a ValueError) for one with lone surrogates.
    """

@final
class Judgement:
    """A verdict about one candidate."""

    @property
    def v(self) -> float:
        """How sure the verifier is that the answer may be shared, 0 … 1; what presets compare."""

    @property
    def p_wrong(self) -> float:
        """The calibrated probability that serving it is wrong."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """The names of the differences that speak against sharing an answer."""

    @property
    def features(self) -> dict[str, float]:
        """Every feature of the guard by its name."""

@final
class Verifier:
    """A fitted model of when an answer may be shared; safe to use from many threads.

    The rule that it is fitted for: an answer is served for the same text, or where V and the cosine both reach what the
    preset asks for. V only vetoes; which candidate is best the cosine says.
    """

    @staticmethod
    def load(json: str) -> Verifier:
        """Read and check a verifier as `tools/fit_decision.py` writes it.

        Raises ValueError that says what is wrong: no JSON or too much of it, another format or version, unknown or
        missing members, another guard, numbers out of range, trees that are none, presets that do not exist.
        """

    @property
    def embedder(self) -> str:
        """The slug of the embedder whose cosines it judges."""

    @property
    def presets(self) -> dict[str, tuple[float, float]]:
        """Least V and least cosine of a hit, by the preset's name."""

    def preset_for(self, max_error_rate: float) -> str | None:
        """The loosest preset that keeps this share of wrong hits; None if none does."""

    def judge(self, query: Guard | str, cached_texts: Sequence[str], cosines: Sequence[float]) -> list[Judgement]:
        """Judge every candidate for a query.

        `cosines` are those of the candidates' embeddings with the query's. Raises ValueError if there is not one for
        each text, or one is not in -1 … 1.
        """
