"""One lookup on its way."""

from __future__ import annotations

from services.cache.decision import Rule
from services.cache.scope import Address
from services.cache.values import Mode, Policy
from services.chassis.value import value


@value
class Ask:
    """What is asked, where its answer belongs, and by which rule it is decided."""

    address: Address
    policy: Policy
    rule: Rule
    token: str

    @property
    def fills(self) -> bool:
        """Whether a miss grants a fill."""
        return self.policy.mode is not Mode.ONLY_IF_CACHED

    @property
    def joins(self) -> bool:
        """Whether a miss may wait for the answer to another question: the caller has to be known when it comes back."""
        return self.policy.mode is Mode.DEFAULT and self.rule.bar is not None and bool(self.token)

    @property
    def embeds(self) -> bool:
        """Whether the question's embedding is of use. A refresh does not read, but what it stores is to be found."""
        searched = self.rule.bar is not None or self.policy.mode is Mode.REFRESH
        return searched and self.address.question.semantic
