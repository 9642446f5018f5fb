"""What must hold of the learning whatever verdicts come: bounds, orders, states that are read back or refused."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.learning import learner as learner_module
from services.cache.learning import namespaces
from services.cache.learning.budget import MEMORY, Budget
from services.cache.learning.drift import LIMIT, SETTLED, Drift
from services.cache.learning.entry_evidence import KEPT, EntryEvidence
from services.cache.learning.labels import ComparerError, Label, Source
from services.cache.learning.ladder import Ladder, Rung, of_presets
from services.cache.learning.learner import LEAST, RENEWED, Learner
from services.cache.learning.namespaces import POOLED, Namespaces, Terms, terms_of
from services.cache.learning.pool import pooled
from services.cache.learning.posterior import Model
from services.cache.learning.state import StateRefused, dumped, restore

PRESETS = {"strict": (0.95, 0.86), "default": (0.94, 0.86), "balanced": (0.84, 0.84), "loose": (0.71, 0.82)}
RATES = [(0.01, "strict"), (0.02, "default"), (0.03, "balanced"), (0.05, "loose")]
LADDER = of_presets(PRESETS, RATES)
ERROR = ComparerError(400, 20, 400, 20)
COUNT = st.integers(0, 100_000)
VERDICTS = st.lists(
    st.builds(Label, st.sampled_from(Source), st.sampled_from("abc"), st.integers(-1, len(LADDER)), st.booleans()),
    max_size=60,
)


START = LADDER.of(*PRESETS["loose"])


def learner(target: float = 0.05, *, start: int = START, loosens: bool = True) -> Learner:
    return Learner(LADDER, LADDER.priors(), target, ERROR, start=start, loosens=loosens)


def spaces(most: int = 10, evicted: Callable[[tuple[str, str], Learner], None] = lambda _key, _one: None) -> Namespaces:
    terms = Terms(LADDER, START, 0.05, loosens=True, comparer="c-1", error=ERROR)
    return Namespaces(terms, most=most, evicted=evicted)


def restored(state: object) -> Learner:
    one = learner()
    restore(state, one, "c-1")
    return one


def taught(labels: list[Label], target: float = 0.05) -> Learner:
    one = learner(target)
    for label in labels:
        one.learn(label)
    one.renew()
    return one


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(COUNT, COUNT), min_size=len(LADDER), max_size=len(LADDER)), st.sampled_from(Source))
def test_a_belief_stays_between_0_and_1_whatever_was_counted(counts: list[tuple[int, int]], source: Source) -> None:
    belief = Model(LADDER.priors()).belief({source: counts}, ERROR)
    assert all(0 <= share <= 1 for share in belief.wrong)
    mean, deviation = belief.over([1.0] * len(LADDER))
    assert 0 <= mean <= 1
    assert math.isfinite(deviation)


@settings(max_examples=20, deadline=None)
@given(VERDICTS, st.randoms(use_true_random=False))
def test_the_order_of_verdicts_does_not_matter(labels: list[Label], dice: random.Random) -> None:
    mixed = list(labels)
    dice.shuffle(mixed)
    assert taught(labels).belief.wrong == pytest.approx(taught(mixed).belief.wrong, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(VERDICTS, st.integers(0, len(LADDER) - 1))
def test_a_verdict_that_differs_never_makes_a_rung_look_better(labels: list[Label], rung: int) -> None:
    before = taught(labels)
    after = taught([*labels, Label(Source.FREE, "a", rung, same=False)])
    assert after.belief.wrong[rung] >= before.belief.wrong[rung] - 1e-9


def test_a_comparer_that_errs_is_not_taken_for_wrong_hits() -> None:
    counts = [(9_500, 500)] * len(LADDER)
    trusted = Model(LADDER.priors()).belief({Source.FREE: counts}, ComparerError(4000, 0, 4000, 0))
    corrected = Model(LADDER.priors()).belief({Source.FREE: counts}, ComparerError(4000, 200, 4000, 200))
    assert trusted.over([1.0] * len(LADDER))[0] == pytest.approx(0.05, abs=0.01)
    assert corrected.over([1.0] * len(LADDER))[0] < 0.01


@settings(max_examples=20, deadline=None)
@given(VERDICTS, st.integers(0, 50))
def test_a_state_survives_a_round_trip_through_json(labels: list[Label], hits: int) -> None:
    one = taught(labels)
    for _ in range(hits):
        one.served(2)
    one.renew()
    state = json.loads(json.dumps(dumped(one, "c-1")))
    two = restored(state)
    assert dumped(two, "c-1") == state
    assert (two.level, two.belief.wrong, two.budget) == (one.level, one.belief.wrong, one.budget)


HOSTILE: list[tuple[str, Any]] = [
    ("version", 2),
    ("version", True),
    ("version", "1"),
    ("format", None),
    ("ladder", []),
    ("comparer", "another"),
    ("counts", {}),
    ("counts", {source.value: [[-1, 0]] * len(LADDER) for source in Source}),
    ("counts", {source.value: [[1.5, 0]] * len(LADDER) for source in Source}),
    ("counts", {source.value: [[2**60, 0]] * len(LADDER) for source in Source}),
    ("counts", {source.value: [[True, 0]] * len(LADDER) for source in Source}),
    ("met", [math.nan] * len(LADDER)),
    ("met", [math.inf] * len(LADDER)),
    ("hits", [-1.0] * len(LADDER)),
    ("hits", "0" * len(LADDER)),
    ("hits", [0.0]),
    ("entries", [["a", 1.0]]),
    ("entries", [[1, 1.0, 1.0]]),
    ("entries", [[str(n), 1.0, 1.0] for n in range(KEPT + 1)]),
    ("drift", [LIMIT + 1, 0, 0]),
    ("drift", [0.0, 0]),
    ("held", -1),
    ("held", 10**6),
]


@pytest.mark.parametrize(("member", "value"), HOSTILE)
def test_a_wrong_state_is_refused_and_counted_and_the_namespace_starts_cold(member: str, value: object) -> None:
    state = {**dumped(learner(), "c-1"), member: value}
    with pytest.raises(StateRefused):
        restored(state)
    known = spaces()
    assert known.open(("t", "a"), state).belief.wrong == learner().belief.wrong
    assert known.refused.total() == 1


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_value_is_refused_in_words(value: object) -> None:
    with pytest.raises(StateRefused):
        restored(value)


@given(st.floats(0.001, 0.5), st.integers(0, 1_000_000), st.floats(0, 1))
def test_a_budget_says_when_it_is_overdrawn_and_then_allows_less(target: float, hits: int, share: float) -> None:
    budget = Budget(target, hits, hits * share)
    assert budget.overdrawn == (budget.left < 0)
    assert 0 <= budget.allowed() <= target
    if budget.overdrawn:
        assert budget.spent >= 1
        assert budget.allowed() < target or budget.left > -1e-9


def test_wrong_hits_that_audits_find_tighten_the_rule() -> None:
    one = taught([Label(Source.FREE, str(n), n % len(LADDER), same=True) for n in range(3000)])
    loose = one.level
    for n in range(400):
        one.served(loose)
        one.learn(Label(Source.AUDIT, str(n), loose, same=n % 3 > 0))
    one.renew()
    assert one.level < loose


def test_free_labels_that_agree_loosen_the_rule() -> None:
    assert (
        taught([Label(Source.FREE, str(n), n % len(LADDER), same=n % 20 > 0) for n in range(3000)]).level
        > learner().level
    )


def test_a_drift_is_noticed_at_once_and_everything_believed_before_is_forgotten() -> None:
    one = taught([Label(Source.FREE, str(n), n % len(LADDER), same=True) for n in range(SETTLED + RENEWED)])
    verdicts = [one.learn(Label(Source.FREE, str(n), n % len(LADDER), same=n % 2 > 0)).alarm for n in range(60)]
    assert any(verdicts)
    assert one.drift.alarms == 1
    assert one.level <= 0


def test_without_a_drift_there_is_no_alarm() -> None:
    dice, watch = random.Random(5), Drift()
    assert not any(watch.watch(expected=0.1, different=dice.random() < 0.1) for _ in range(3000))


def test_an_entry_that_is_wrong_again_and_again_has_to_be_nearer_than_others() -> None:
    one = learner()
    for _ in range(4):
        one.learn(Label(Source.OPERATOR, "bad", 2, same=False))
    for _ in range(20):
        one.learn(Label(Source.OPERATOR, "good", 8, same=True))
    assert one.level_for("bad") < one.level_for("other") == one.level
    assert one.level_for("good") == one.level
    told = learner()
    told.tell(Source.OPERATOR, "bad", same=False)
    told.tell(Source.CLIENT, "meh", same=False)
    assert told.level_for("bad") < told.level
    assert told.level_for("bad") <= told.level_for("meh")
    assert told.verdicts == 0, "without a pair it says nothing about rungs"


def test_an_operators_verdict_takes_an_entry_away_and_a_clients_does_not() -> None:
    one = learner()
    assert one.learn(Label(Source.OPERATOR, "a", 2, same=False)).quarantine
    assert one.learn(Label(Source.AUDIT, "a", 2, same=False)).quarantine
    assert not one.learn(Label(Source.CLIENT, "a", 2, same=False)).quarantine


def test_a_client_moves_less_than_an_operator() -> None:
    client = taught([Label(Source.CLIENT, "a", 3, same=False)] * 5)
    operator = taught([Label(Source.OPERATOR, "a", 3, same=False)] * 5)
    assert LADDER.priors()[3] < client.belief.wrong[3] < operator.belief.wrong[3] or (
        client.belief.wrong[3] < operator.belief.wrong[3]
    )


def test_entries_are_bounded_and_the_bad_ones_stay() -> None:
    seen = EntryEvidence()
    seen.add("bad", wrong=3.0, expected=0.1)
    for n in range(3 * KEPT):
        seen.add(str(n), wrong=0.0, expected=0.1)
    assert len(seen) <= KEPT
    assert seen.factor("bad") > 5


def test_a_new_namespace_starts_from_what_others_have_in_common_and_is_its_own_afterwards() -> None:
    bad = taught([Label(Source.AUDIT, str(n), 4, same=n % 2 > 0) for n in range(300)])
    shared = pooled(LADDER, [bad])
    assert shared[4] > LADDER.priors()[4]
    assert all(a <= b for a, b in pairwise(shared))
    assert pooled(LADDER, []) == pytest.approx(LADDER.priors())


def test_namespaces_are_bounded_and_the_one_used_last_stays() -> None:
    gone: dict[tuple[str, str], Learner] = {}
    known = spaces(most=3, evicted=gone.__setitem__)
    for n in range(3):
        known.open(("t", str(n)))
    assert known.get(("t", "0")) is not None
    known.open(("t", "3"))
    assert [key[1] for key, _ in known.items()] == ["2", "0", "3"]
    assert list(gone) == [("t", "1")]
    states = {key: known.state(one) for key, one in known.items()}
    again = spaces()
    assert {key: again.state(again.open(key, copy.deepcopy(state))) for key, state in states.items()} == states


def test_many_namespaces_share_what_is_dear_to_make(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counting(ladder: Ladder, learners: Iterable[Learner]) -> tuple[float, ...]:
        known = list(learners)
        read.append(len(known))
        return pooled(ladder, known)

    monkeypatch.setattr(namespaces, "pooled", counting)
    known, count = spaces(most=1_000), 400
    for n in range(count):
        known.open(("t", str(n)))
    assert sum(read) <= 2 * POOLED * count, "reading all others for each new one is quadratic"
    assert len({id(one.belief) for _, one in known.items()}) == 1


def test_a_new_namespace_of_a_large_tenant_soon_starts_from_what_was_learned() -> None:
    known = spaces(most=1_000)
    for n in range(64):
        known.open(("t", str(n)))
    for _ in range(300):
        one = known.get(("t", "0"))
        assert one is not None
        one.learn(Label(Source.AUDIT, "a", 4, same=False))
    opened = [known.open(("t", str(n))).belief.wrong[4] for n in range(64, 80)]
    assert opened[-1] > LADDER.priors()[4]


def test_another_tenants_verdicts_do_not_move_a_new_namespace() -> None:
    known = spaces()
    bad = known.open(("theirs", "a"))
    for n in range(400):
        bad.learn(Label(Source.AUDIT, str(n), 4, same=n % 2 > 0))
    assert known.open(("mine", "a")).belief.wrong == learner().belief.wrong
    assert known.open(("theirs", "b")).belief.wrong != learner().belief.wrong


@given(VERDICTS)
def test_until_it_has_heard_enough_the_preset_is_in_force(labels: list[Label]) -> None:
    one = learner(0.02, start=5)
    for label in labels[: LEAST - 1]:
        one.learn(label)
    one.renew()
    assert one.level == 5


def test_what_only_tightens_is_never_looser_than_the_preset() -> None:
    fine = [Label(Source.FREE, str(n), n % len(LADDER), same=True) for n in range(3000)]
    free, bound = learner(0.05, start=3), learner(0.05, start=3, loosens=False)
    for label in fine:
        free.learn(label)
        assert not bound.learn(label).alarm
        assert bound.level <= 3
    assert free.level > 3
    for n in range(600):
        bound.served(3)
        bound.learn(Label(Source.AUDIT, str(n), 3, same=n % 2 > 0))
    assert bound.level < 3


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_gives_the_start_and_the_promise(preset: str) -> None:
    class Comparing:
        version, error = "c-1", ERROR

        async def same(self, fresh: str, stored: str, *, tenant: str) -> bool:
            raise NotImplementedError

    terms = terms_of(PRESETS, RATES, preset, loosens=False, comparer=Comparing())
    rung = terms.ladder.rungs[terms.start]
    assert (rung.score, rung.cosine) == PRESETS[preset]
    assert (terms.target, preset) in RATES
    with pytest.raises(ValueError):
        terms_of(PRESETS, [rate for rate in RATES if rate[1] != preset], preset, loosens=False, comparer=Comparing())


@given(st.floats(0, 1), st.floats(-1, 1), st.floats(0, 0.2), st.floats(0, 0.2))
def test_a_better_pair_never_stands_lower_on_the_ladder(v: float, c: float, more_v: float, more_c: float) -> None:
    assert LADDER.of(min(v + more_v, 1), min(c + more_c, 1)) <= LADDER.of(v, c)


def test_every_preset_is_a_rung() -> None:
    assert {(rung.score, rung.cosine) for rung in LADDER.rungs} >= set(PRESETS.values())


@pytest.mark.parametrize(
    "rungs", [(), (Rung(0.5, 0.5, 0.1), Rung(0.6, 0.5, 0.2)), (Rung(0.5, 0.5, 0.2), Rung(0.4, 0.5, 0.1))]
)
def test_a_ladder_out_of_order_is_refused(rungs: tuple[Rung, ...]) -> None:
    with pytest.raises(ValueError):
        Ladder(rungs)


def test_hits_fade_evenly_however_many_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_module, "HEAVIEST", 1.5)  # reached again and again
    found, plain = learner(), [0.0] * len(LADDER)
    dice = random.Random(7)
    for _ in range(3_000):
        rung = dice.randrange(len(LADDER))
        found.served(rung)
        plain = [one * (1 - 1 / MEMORY) for one in plain]
        plain[rung] += 1
    assert found.hits == pytest.approx(plain)
