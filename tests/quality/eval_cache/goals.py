"""What the decision is to reach, out of fold, on the development sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Figures = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Per cent by set, column and measure."""


@dataclass(frozen=True)
class Goal:
    """A preset on a set: at least `least` per cent of one measure at most `most` of another, where one is given."""

    set: str
    preset: str
    good: str
    bad: str
    least: float | None
    most: float | None
    stretch: bool = False

    def found(self, figures: Figures) -> tuple[float, float] | None:
        """The two figures, unless the set or the preset was left out."""
        cell = figures.get(self.set, {}).get(self.preset)
        return None if cell is None else (cell[self.good], cell[self.bad])

    def met(self, figures: Figures) -> bool | None:
        """Whether both hold."""
        found = self.found(figures)
        if found is None:
            return None
        return (self.least is None or found[0] >= self.least) and (self.most is None or found[1] <= self.most)

    def __str__(self) -> str:
        wanted = [f"{self.good} ≥ {self.least:g}"] if self.least is not None else []
        wanted += [f"{self.bad} ≤ {self.most:g}"] if self.most is not None else []
        return f"{self.set}, {self.preset}: {', '.join(wanted)}" + (" (stretch)" if self.stretch else "")


def _stream(name: str, preset: str, least: float | None, most: float | None, *, stretch: bool = False) -> Goal:
    return Goal(f"{name} stream", preset, "hit", "wrong", least, most, stretch)


def _pairs(name: str, preset: str, least: float | None, most: float | None, *, stretch: bool = False) -> Goal:
    return Goal(f"{name} pairs", preset, "recall", "trap", least, most, stretch)


GOALS = (
    _stream("mixed", "default", 16.0, 2.3),
    _stream("mixed", "loose", 25.0, 5.0),
    _pairs("adversarial", "balanced", 44.0, 2.0),
    _pairs("adversarial", "loose", 68.0, 3.0),
    _pairs("real_edits", "default", 86.0, 0.5),
    _pairs("longctx", "balanced", 86.0, 1.0),
    _pairs("squad_para", "default", 63.0, None),
    Goal("arena_hard stream", "default", "recall", "hit", None, 0.0),
    Goal("arena_hard stream", "loose", "recall", "hit", None, 0.0),
    _pairs("own", "default", 40.0, 2.0),
    _pairs("own", "default", None, 1.0),
    _stream("mixed", "default", 21.0, 2.0, stretch=True),
    _pairs("adversarial", "balanced", 68.0, 2.0, stretch=True),
    _pairs("squad_para", "default", 90.0, None, stretch=True),
    _pairs("paws_qqp", "default", None, 3.0, stretch=True),
)
