"""What a stored answer is worth: what its next hits will save, as far as anybody can tell now.

    worth = money that a hit saves x hits to be expected x probability that the answer is right

Hits to be expected come from those that were seen, which count less the longer ago they were (the combined recency and
frequency of LRFU: Lee et al., IEEE ToC 50(12), 2001), over the time in which they could be seen (hyperbolic caching:
Blankstein, Sen, Freedman, USENIX ATC 2017), so that what has just come is not behind what is old. Where bytes are short
the worth is divided by the size (GDSF: Cherkasova, HP Labs 1998). Time is counted in what happens: stored answers and
hits of the tenant.
"""

from __future__ import annotations

import math

from services.cache.review import Review
from services.llm.values import Answer

MEMORY = 10
"""Times as many events as there are entries, after which a hit counts half: the sample of TinyLFU (Einziger, Friedman,
Manes, ACM ToS 13(4), 2017), which halves its counts then."""

NEWCOMER_HITS = 0.05
GRACE = 0.25
"""What is believed of a newcomer: so many hits in so many times `half` events, as most questions never come again.

Chosen on ten seeds of the stream of `make bench-eviction`: with twice as many hits the questions that are asked most
lose about a point of theirs, as newcomers that were dear drive out cheap answers, and no more money is saved.
"""

INPUT_NANO_USD = 150
OUTPUT_NANO_USD = 600
"""Of one token where the answer does not say what it cost: list prices of small models. Only their ratio to what other
answers cost matters."""

FREE_NANO_USD = 1
"""Of one token that is known to have cost nothing: making the answer anew would take time all the same."""

TOKEN_BYTES = 4
"""Of text, where the answer does not say how many tokens it took: the usual rule of thumb for English."""

OPINION = 1.0
"""Voices that everybody is taken to have heard for an answer before the first: one against it halves its worth."""


def saving(question: str, answer: Answer) -> float:
    """Nano-USD that a hit saves, above 0; estimated from tokens where the answer does not say, and those from text."""
    if answer.cost.nano_usd > 0:
        return float(answer.cost.nano_usd)
    usage = answer.usage
    asked = usage.input or len(question) / TOKEN_BYTES
    answered = usage.output or len(answer.text) / TOKEN_BYTES
    if answer.cost.price_version:
        return max(FREE_NANO_USD * (asked + answered), 1.0)
    return max(INPUT_NANO_USD * asked + OUTPUT_NANO_USD * answered, 1.0)


def faded(hits: float, events: int, half: float) -> float:
    """What so many hits count for after so many events; `half`: events after which they count half."""
    return hits * math.exp2(-events / half)


def reuse(hits: float, events: int, half: float) -> float:
    """Hits to be expected per event of an entry with so many hits, faded, that was there for so many events.

    The mean of a Gamma posterior. What was seen fades with the time in which it could be seen; that nothing was seen
    does not, so an entry that was dear and is never asked for goes in the end.
    """
    seen_for = half / math.log(2) * (1.0 - math.exp2(-events / half))
    return hits / (seen_for + GRACE * half) + NEWCOMER_HITS / (events + GRACE * half)


def p_right(review: Review, p_wrong: float) -> float:
    """Probability that an answer is right: by what was said about it, and by what is known of entries like it.

    `p_wrong`: what is learned of its semantic hits. Nothing is served of an entry that is quarantined as a whole.
    """
    if not review.said:
        return 1.0 - p_wrong
    if review.quarantine is not None and review.quarantine.whole:
        return 0.0
    right = sum(one.right for one in review.said)
    return (OPINION + right) / (OPINION + len(review.said)) * (1.0 - p_wrong)
