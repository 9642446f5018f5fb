"""What was found, as pictures: each preset among the thresholds of the cosine, and stated against found errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

from tests.quality.eval_cache.asking import Stated
from tests.quality.eval_cache.goals import Figures
from tests.quality.eval_cache.report import CosineCounts

mpl.use("Agg")

from matplotlib import pyplot

COLUMNS = 4
BINS = 10


def write(folder: Path, found: Figures, cosines: Mapping[str, CosineCounts], stated: Sequence[Stated]) -> None:
    """`streams.png`, `pairs.png` and, if anything was served, `p_wrong.png`."""
    for kind, good, bad in (("stream", "hit", "wrong"), ("pairs", "recall", "trap")):
        names = [name for name in found if name.endswith(kind)]
        if names:
            _grid(folder / f"{kind.removesuffix('s')}s.png", names, found, cosines, (good, bad))
    if stated:
        _reliability(folder / "p_wrong.png", stated)


def _grid(
    path: Path, names: Sequence[str], found: Figures, cosines: Mapping[str, CosineCounts], axes: tuple[str, str]
) -> None:
    good, bad = axes
    rows = -(-len(names) // COLUMNS)
    figure, grid = pyplot.subplots(rows, COLUMNS, figsize=(4 * COLUMNS, 3.4 * rows), squeeze=False)
    for plot, name in zip(grid.flat, names, strict=False):
        line = [counts.shares() for counts in cosines[name].values()]
        plot.plot([share[good] for share in line], [share[bad] for share in line], ".-", label="cosine .70 … .99")
        for column, cell in found[name].items():
            if not column.startswith(("cosine", "best")):
                plot.plot(cell[good], cell[bad], "o", label=column)
        plot.set(title=name, xlabel=f"{good} %", ylabel=f"{bad} %")
    for plot in grid.flat[len(names) :]:
        plot.axis("off")
    grid.flat[0].legend(fontsize="x-small")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _reliability(path: Path, stated: Sequence[Stated]) -> None:
    order = sorted(stated, key=lambda hit: hit.p_wrong)
    parts = [part for part in np.array_split(np.arange(len(order)), BINS) if len(part)]
    said = [100.0 * float(np.mean([order[at].p_wrong for at in part])) for part in parts]
    true = [100.0 * float(np.mean([order[at].wrong for at in part])) for part in parts]
    figure, plot = pyplot.subplots(figsize=(5, 4))
    plot.plot(said, true, "o-")
    plot.plot([0, max(said)], [0, max(said)], ":")
    plot.set(xlabel="stated p_wrong, %", ylabel="wrong, %", title="semantic hits of streams, tenths by p_wrong")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
