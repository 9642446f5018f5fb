"""One stream through one rule: look up, store on a miss, and let the rule learn from what a service would see."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from services.cache.learning.labels import Label, Source
from services.cache.learning.ladder import Ladder
from services.cache.learning.learner import Learner
from services.cache.learning.rivals import Answered
from tests.quality.eval_online.vcache import Vcache
from tests.quality.eval_online.world import Found, Shelf, Stream, World

AUDITED = 0.02
"""Of the hits; a setting of the service."""


@dataclass
class Played:
    """What a replay did, hit by hit."""

    lookups: int = 0
    wrong: list[bool] = field(default_factory=list)
    alarms: list[int] = field(default_factory=list)
    """Hits before each alarm."""
    levels: list[int] = field(default_factory=list)
    """The level at each hit; -1 where there is none."""

    @property
    def hits(self) -> float:
        """Share of lookups."""
        return len(self.wrong) / max(self.lookups, 1)

    def rate(self, start: int = 0) -> float:
        """Share of wrong among the hits from one on; NaN without any."""
        part = self.wrong[start:]
        return sum(part) / len(part) if part else math.nan

    def least(self, start: int = 0) -> float:
        """Its one-sided 95 % lower bound (Wilson 1927)."""
        count = len(self.wrong[start:])
        if not count:
            return 0.0
        p, z2 = self.rate(start), 1.6449**2
        half = math.sqrt(z2 * (p * (1 - p) + z2 / (4 * count)) / count)
        return (p + z2 / (2 * count) - half) / (1 + z2 / count)


class Player(Protocol):
    """A rule: which candidate it serves, and what it learns."""

    def choose(self, found: Found) -> int | None:
        """The candidate to serve, by its place in `found`."""
        ...

    def missed(self, place: int, found: Found, fresh: str, shelf: Shelf, world: World) -> bool:
        """Learn from a miss; whether the fresh answer is stored."""
        ...

    def served(self, place: int, found: Found, at: int, shelf: Shelf, world: World) -> bool:
        """Learn from a hit; whether there was an alarm."""
        ...

    @property
    def level(self) -> int:
        """How loose it is now."""
        ...


class Fixed:
    """The operator's preset: never learns."""

    level = -1

    def __init__(self, score: float, cosine: float) -> None:
        self._score, self._cosine = score, cosine

    def choose(self, found: Found) -> int | None:
        """See `Player`."""
        pairs = zip(found.scores, found.cosines, strict=True)
        return next((at for at, (v, c) in enumerate(pairs) if v >= self._score and c >= self._cosine), None)

    def missed(self, place: int, found: Found, fresh: str, shelf: Shelf, world: World) -> bool:
        """See `Player`."""
        return True

    def served(self, place: int, found: Found, at: int, shelf: Shelf, world: World) -> bool:
        """See `Player`."""
        return False


class Learning:
    """The project's learner as a service would run it."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.alarmed = False
        self._answers: Counter[int] = Counter()
        """By place: how many answers were stored there."""

    @property
    def level(self) -> int:
        """See `Player`."""
        return self.learner.level

    def choose(self, found: Found) -> int | None:
        """See `Player`."""
        rungs = self._rungs(found)
        for at, (place, rung) in enumerate(zip(found.places, rungs, strict=True)):
            if rung <= self.learner.level_for(str(place)):
                return None if self._contested(found, rungs, at) else at
        return None

    def missed(self, place: int, found: Found, fresh: str, shelf: Shelf, world: World) -> bool:
        """See `Player`."""
        rungs = self._rungs(found)
        if not rungs:
            return True
        at = min(range(len(rungs)), key=rungs.__getitem__)
        said = [world.same(fresh, shelf.answers[other]) for other in found.places]
        self.learner.missed(rungs[at])
        if not self._contested(found, rungs, at):
            learned = self.learner.learn(Label(Source.FREE, str(found.places[at]), rungs[at], said[at]))
            self.alarmed |= learned.alarm
        self._answers[place] += 1
        for other, rung, same in zip(found.places, rungs, said, strict=True):
            if rung < len(self.learner.ladder):
                self.learner.rivals.note(self._answered(place), self._answered(other), same=same)
        return True

    def _rungs(self, found: Found) -> list[int]:
        return [self.learner.ladder.of(*pair) for pair in zip(found.scores, found.cosines, strict=True)]

    def _contested(self, found: Found, rungs: list[int], at: int) -> bool:
        beside = [(self._answered(other), rung) for other, rung in zip(found.places, rungs, strict=True)]
        return self.learner.contested(self._answered(found.places[at]), rungs[at], beside)

    def _answered(self, place: int) -> Answered:
        return str(place), str(self._answers[place])

    def served(self, place: int, found: Found, at: int, shelf: Shelf, world: World) -> bool:
        """See `Player`."""
        entry = found.places[at]
        rung = self.learner.ladder.of(found.scores[at], found.cosines[at])
        self.learner.served(rung)
        if world.dice.random() < AUDITED:
            same = world.same(world.answer(place), shelf.answers[entry])
            learned = self.learner.learn(Label(Source.AUDIT, str(entry), rung, same))
            self.alarmed |= learned.alarm
            if learned.quarantine:
                shelf.withdraw(entry)
        alarmed, self.alarmed = self.alarmed, False
        return alarmed


class Published:
    """vCache's rule, on the most similar entry alone."""

    level = -1

    def __init__(self, rule: Vcache) -> None:
        self._rule = rule

    def choose(self, found: Found) -> int | None:
        """See `Player`."""
        return 0 if found.places and self._rule.serves(found.places[0], found.cosines[0]) else None

    def missed(self, place: int, found: Found, fresh: str, shelf: Shelf, world: World) -> bool:
        """See `Player`."""
        if not found.places:
            return True
        same = world.same(fresh, shelf.answers[found.places[0]])
        self._rule.observe(found.places[0], found.cosines[0], same)
        return not same

    def served(self, place: int, found: Found, at: int, shelf: Shelf, world: World) -> bool:
        """See `Player`."""
        return False


def play(stream: Stream, player: Player, world: World, *, orders: list[list[int]], lowest: float, until: int) -> Played:
    """Go through the orders, an empty shelf for each, until there were enough hits; what was learned stays."""
    played = Played()
    for order in orders:
        if len(played.wrong) >= until:
            break
        once(stream, player, world, order, Shelf(stream, lowest), played)
    return played


def once(stream: Stream, player: Player, world: World, order: list[int], shelf: Shelf, played: Played) -> None:
    """One pass; adds to `played`."""
    for place in order:
        played.lookups += 1
        found = shelf.find(place)
        at = player.choose(found)
        if at is None:
            fresh = world.answer(place)
            if player.missed(place, found, fresh, shelf, world):
                shelf.store(place, fresh)
            continue
        stored = shelf.answers[found.places[at]].rpartition("\n")[0]
        played.wrong.append(stored != world.meaning(place))
        played.levels.append(player.level)
        if player.served(place, found, at, shelf, world):
            played.alarms.append(len(played.wrong))


def lowest(ladder: Ladder) -> float:
    """The cosine below which no rung of the ladder reaches."""
    return ladder.rungs[-1].cosine
