"""The policy `keywords`: lists of words, and length where no word decides.

The plain rule that many routers begin with, kept to compare with and to be understood at a glance. Whole words only.
"""

from __future__ import annotations

from services.catalogue.values import Tier
from services.llm.values import Role
from services.router.features import scanned
from services.router.terms import words
from services.router.values import Assessment, RouteRequest
from services.router.vocabulary import KEYWORDS_COMPLEX, KEYWORDS_MODERATE, KEYWORDS_SIMPLE

SIMPLE_WORDS, COMPLEX_WORDS = 20, 200
"""Without a keyword: fewer words than the first are simple, at least as many as the second complex."""

LONG_WORDS = 100
"""A simple keyword in a message of this many words does not make it simple."""


class KeywordPolicy:
    """The hardest list of which a word stands in the last user message decides."""

    name = "keywords"
    version = "keywords/1"

    def assess(self, request: RouteRequest) -> Assessment:
        """Return the class; confidence rises with the number of words found for it against all found."""
        asked = next((message.text for message in reversed(request.messages) if message.role is Role.USER), "")
        found = words(scanned(asked))
        hits = {
            Tier.COMPLEX: KEYWORDS_COMPLEX.find(found),
            Tier.MODERATE: KEYWORDS_MODERATE.find(found),
            Tier.SIMPLE: KEYWORDS_SIMPLE.find(found),
        }
        total = sum(map(len, hits.values()))
        for tier, terms in hits.items():
            if terms and not (tier is Tier.SIMPLE and len(found) >= LONG_WORDS):
                named = ", ".join(f"'{term}'" for term in dict.fromkeys(terms))
                return Assessment(tier, len(terms) / (total + 1), (f"keyword {named}: {tier.name.lower()}",))
        count = len(found)
        tier = Tier.SIMPLE if count < SIMPLE_WORDS else Tier.COMPLEX if count >= COMPLEX_WORDS else Tier.MODERATE
        return Assessment(tier, 0.0, (f"no keyword, {count} words: {tier.name.lower()}",))
