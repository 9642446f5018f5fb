"""When an answer is served: the shipped verifier, the guard without one, and what callers may ask for."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from importlib import resources

import pytest

from services.cache.decision import JUDGED, Bar, Verdict, rule_for
from services.cache.judges import INLINE_CHARACTERS, GuardedJudge, VerifiedJudge
from services.cache.similarity import Found, Wanted
from services.cache.values import Asked, Mode, Outcome, Policy
from tests.unit.cache.cache_parts import Bench, Trusting, ask, benched
from tests.unit.cache.judge_parts import Scripted

ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"
REVERSED = "How do I not reset my password?"
ONLY = Policy(mode=Mode.ONLY_IF_CACHED)
SHIPPED = resources.files("services.cache").joinpath("verifier", "minilm.json").read_text(encoding="utf-8")


async def stored(bench: Bench, *cosines: tuple[str, float], to: str = ASKED) -> None:
    for text, cosine in cosines:
        bench.embedder.alike(text, to, cosine)
        await bench.put(text, text)


# --- the rule --------------------------------------------------------------------------------------------------------


async def test_score_and_cosine_must_both_be_reached() -> None:
    async with benched(judge=Scripted(close=0.5, far=1.0, other=0.49)) as bench:
        await stored(bench, ("close enough", 0.81))
        await stored(bench, ("far away", 0.79), to="a second question")
        await stored(bench, ("other thing", 0.99), to="a third question")
        found = await bench.look(ASKED, ONLY)
        assert found.outcome is Outcome.SEMANTIC
        assert (found.decision.score, found.decision.score_threshold, found.decision.p_wrong) == (0.5, 0.5, 0.5)
        assert found.decision.threshold == 0.8
        far = await bench.look("a second question", ONLY)
        assert (far.outcome, far.decision.vetoes, far.decision.score) == (Outcome.MISS, ("below_threshold",), None)
        other = await bench.look("a third question", ONLY)
        assert (other.outcome, other.decision.vetoes, other.decision.score) == (Outcome.MISS, ("unsure",), 0.49)


async def test_the_best_that_passes_is_served_and_a_miss_tells_of_the_nearest() -> None:
    judge = Scripted(second=0.6, third=0.9)
    async with benched(judge=judge) as bench:
        await stored(bench, ("first", 0.99), ("third", 0.9), ("second", 0.95))
        found = await bench.look(ASKED, ONLY)
        assert found.entry.answer.text == "second", "the cosine ranks, the verifier only vetoes"
        judge.scores.clear()
        missed = await bench.look(ASKED, ONLY)
        assert missed.decision.vetoes == ("unsure", "number")
        assert missed.decision.similarity == pytest.approx(0.99, abs=1e-5)


async def test_where_the_most_similar_one_passes_no_other_is_judged() -> None:
    judge = Scripted(first=0.9, second=0.9)
    async with benched(judge=judge) as bench:
        await stored(bench, ("first", 0.99), ("second", 0.95))
        assert (await bench.look(ASKED, ONLY)).entry.answer.text == "first"
        assert judge.asked == [["first"]]


async def test_the_most_similar_one_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with benched(judge=Scripted(near=0.9)) as bench:
        await stored(bench, ("near", 0.99), ("doubtful", 0.95), ("further", 0.9))
        similarity = bench.cache.entries.similarity
        searched: list[int] = []
        search = similarity.search_at_once

        def counted(wanted: Sequence[Wanted], *, least: float, now: float) -> Found | None:
            searched.append(wanted[0].most)
            return search(wanted, least=least, now=now)

        monkeypatch.setattr(similarity, "search_at_once", counted)
        assert (await bench.look(ASKED, ONLY)).entry.answer.text == "near"
        assert searched == [1]
        searched.clear()
        assert (await bench.look(ASKED, dataclasses.replace(ONLY, min_similarity=0.995))).outcome is Outcome.MISS
        assert searched == [1, JUDGED]


async def test_of_long_texts_too_the_most_similar_one_is_judged_alone() -> None:
    long = "and so on" * (INLINE_CHARACTERS // 9 + 1)
    judge = Scripted(**{"0": 0.9})
    async with benched(judge=judge) as bench:
        await stored(bench, *((f"{number} {long}", 0.99 - number / 100) for number in range(4)))
        assert (await bench.look(ASKED, ONLY)).outcome is Outcome.SEMANTIC
        assert [len(texts) for texts in judge.asked] == [1]


async def test_four_are_judged_however_many_of_the_better_ones_are_too_old() -> None:
    judge = Scripted(young3=0.9, young4=0.9)
    async with benched(judge=judge) as bench:
        await stored(bench, *((f"old{number}", 0.99) for number in range(9)))
        bench.clock.advance(100)
        await stored(bench, *((f"young{number}", 0.95 - number / 100) for number in range(5)))
        found = await bench.look(ASKED, dataclasses.replace(ONLY, max_age=50.0))
        assert found.entry.answer.text == "young3"
        assert judge.asked == [["young0", "young1", "young2", "young3"]]
        del judge.scores["young3"]
        assert (await bench.look(ASKED, dataclasses.replace(ONLY, max_age=50.0))).outcome is Outcome.MISS


@pytest.mark.parametrize(
    ("policy", "bar", "veto"),
    [
        (Policy(), Bar(0.8, 0.5), None),
        (Policy(min_similarity=0.85), Bar(0.85, 0.5), None),
        (Policy(min_similarity=0.1), Bar(0.8, 0.5), None),
        (Policy(max_error_rate=0.02), Bar(0.9, 0.7), None),
        (Policy(max_error_rate=0.5), Bar(0.8, 0.5), None),
        (Policy(max_error_rate=0.02, min_similarity=0.95), Bar(0.95, 0.7), None),
        (Policy(max_error_rate=0.5, min_similarity=0.95), Bar(0.95, 0.5), None),
        (Policy(max_error_rate=0.001), None, "max_error_rate"),
        (Policy(max_error_rate=0.5, min_similarity=1.0), None, "exact_only"),
    ],
)
def test_a_caller_can_only_tighten_and_both_of_its_limits_count(
    policy: Policy, bar: Bar | None, veto: str | None
) -> None:
    rule = rule_for(policy, Scripted(), semantic=True)
    assert (rule.bar, rule.exact_only) == (bar, veto)
    assert rule_for(policy, Scripted(), semantic=False).exact_only == "exact_only"


async def test_long_texts_are_compared_on_a_thread() -> None:
    judge = Scripted(short=1.0, long=1.0)
    async with benched(judge=judge) as bench:
        await stored(bench, ("short", 0.9))
        await stored(bench, ("long " * INLINE_CHARACTERS, 0.9), to="another question")
        for question in (ASKED, "another question"):
            assert (await bench.look(question, ONLY)).outcome is Outcome.SEMANTIC
    assert judge.threads[0] == threading.main_thread().name
    assert judge.threads[1].startswith("search")


async def test_what_is_deleted_while_long_texts_are_compared_is_not_served() -> None:
    judge = Scripted(first=1.0, second=1.0)
    async with benched(judge=judge) as bench:
        await stored(bench, ("first " * INLINE_CHARACTERS, 0.95), ("second", 0.9))
        first = next(iter(bench.cache.entries.bucket("default", "default").entries.values()))

        def judging(question: str, cached: Sequence[str], cosines: Sequence[float]) -> list[Verdict]:
            bench.cache.entries.remove(first)
            return Scripted.judge(judge, question, cached, cosines)

        judge.judge = judging  # type: ignore[method-assign]
        assert (await bench.look(ASKED, ONLY)).entry.answer.text == "second"


async def test_what_is_deleted_while_another_question_of_a_batch_is_compared_is_not_served() -> None:
    judge = Scripted(first=1.0, second=1.0)
    async with benched(judge=judge) as bench:
        await stored(bench, ("first", 0.9))
        await stored(bench, ("second " * INLINE_CHARACTERS, 0.9), to="another question")
        first = next(iter(bench.cache.entries.bucket("default", "default").entries.values()))

        def judging(question: str, cached: Sequence[str], cosines: Sequence[float]) -> list[Verdict]:
            if question == "another question":
                bench.cache.entries.remove(first)
            return Scripted.judge(judge, question, cached, cosines)

        judge.judge = judging  # type: ignore[method-assign]
        asked = [Asked(ask(text), ONLY, "") for text in (ASKED, "another question")]
        outcomes = [result.outcome for result in await bench.look_many(asked)]
        assert outcomes == [Outcome.MISS, Outcome.SEMANTIC]


# --- the shipped verifier ---------------------------------------------------------------------------------------------


async def test_the_shipped_verifier_serves_a_rewording_and_no_reversal() -> None:
    async with benched(judge=VerifiedJudge(SHIPPED, "default")) as bench:
        await bench.put(ASKED)
        bench.embedder.alike(REWORDED, ASKED, 0.992)
        bench.embedder.alike(REVERSED, ASKED, 0.992)
        served = await bench.look(REWORDED, ONLY)
        assert served.outcome is Outcome.SEMANTIC
        assert served.decision.p_wrong < 0.5
        vetoed = await bench.look(REVERSED, ONLY)
        assert vetoed.outcome is Outcome.MISS
        assert vetoed.decision.vetoes[0] == "unsure"
        assert "negation" in vetoed.decision.vetoes


def test_presets_of_the_shipped_verifier_go_from_strict_to_loose() -> None:
    bars = [VerifiedJudge(SHIPPED, preset).bar for preset in ("strict", "default", "balanced", "loose")]
    assert [bar.score for bar in bars] == sorted((bar.score for bar in bars), reverse=True)
    assert [bar.cosine for bar in bars] == sorted((bar.cosine for bar in bars), reverse=True)
    with pytest.raises(KeyError):
        VerifiedJudge(SHIPPED, "none")
    with pytest.raises(ValueError):
        VerifiedJudge("{}", "default")


def test_a_stated_error_rate_is_a_preset_of_the_shipped_verifier() -> None:
    judge = VerifiedJudge(SHIPPED, "loose")
    assert judge.bar_for(0.0) is None
    assert judge.bar_for(0.02) == VerifiedJudge(SHIPPED, "default").bar
    assert VerifiedJudge(SHIPPED, "default").version == judge.version, "the rule's threshold is told by itself"


# --- without a verifier -----------------------------------------------------------------------------------------------


async def test_without_a_verifier_every_difference_is_a_veto() -> None:
    async with benched(judge=GuardedJudge(0.9)) as bench:
        await bench.put(ASKED)
        for text in (REWORDED, REVERSED, "How do I reset my 2 passwords?"):
            bench.embedder.alike(text, ASKED, 0.99)
        served = await bench.look(REWORDED, ONLY)
        assert (served.outcome, served.decision.p_wrong, served.decision.score) == (Outcome.SEMANTIC, None, None)
        assert "negation" in (await bench.look(REVERSED, ONLY)).decision.vetoes
        assert "number_one_sided" in (await bench.look("How do I reset my 2 passwords?", ONLY)).decision.vetoes
        uncalibrated = await bench.look(REWORDED, dataclasses.replace(ONLY, max_error_rate=0.5))
        assert (uncalibrated.outcome, uncalibrated.decision.vetoes) == (Outcome.MISS, ("uncalibrated",))


@pytest.mark.fault(86)
@pytest.mark.parametrize("judge", [GuardedJudge(0.8), VerifiedJudge(SHIPPED, "default")], ids=["guard", "verifier"])
async def test_what_a_language_that_nobody_knows_says_is_judged_more_strictly(
    judge: GuardedJudge | VerifiedJudge,
) -> None:
    async with benched(judge=judge) as bench:
        opened, closed = "Miten avaan tilin?", "Miten suljen tilin?"
        bench.embedder.alike(closed, opened, 0.99)
        await bench.put(opened)
        missed = await bench.look(closed, ONLY)
        assert missed.outcome is Outcome.MISS
        assert "unknown_language" in missed.decision.vetoes


@pytest.mark.fault(86)
@pytest.mark.parametrize("judge", [Trusting(0.8), GuardedJudge(0.8), VerifiedJudge(SHIPPED, "loose")])
async def test_no_text_is_too_strange_to_be_judged(judge: GuardedJudge | VerifiedJudge) -> None:
    strange = [
        "😀" * 50 + "?",
        "👩‍👩‍👧‍👦🏳️‍🌈 1️⃣",
        "איך מאפסים את הסיסמה שלי?",
        "كيف أعيد تعيين كلمة المرور\u200f (v2)؟",
        "\u202epassword my reset I do how",
        "a" * 100_000,
        "مرحبا" * 20_000,
        "e" + "\u0301" * 20,
        "\x00\x01\x7f",
        "ﷺ𝔘𝔫𝔦𝔠𝔬𝔡𝔢\ufffd",
    ]
    async with benched(judge=judge) as bench:
        for text in strange:
            await bench.put(text, text[:20])
        for text in strange:
            assert (await bench.look(text, ONLY)).outcome is Outcome.EXACT
            for other in strange:
                bench.embedder.alike(f"{other} and so on", text, 0.99)
                assert (await bench.look(f"{other} and so on", ONLY)).outcome in {Outcome.SEMANTIC, Outcome.MISS}
