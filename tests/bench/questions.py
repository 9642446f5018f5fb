"""Questions that are all different, and a rewording of each."""

from __future__ import annotations

_THINGS = (
    "password", "invoice", "account", "subscription", "delivery address", "credit card", "profile picture", "api key",
    "backup", "domain name", "calendar", "mailbox", "printer", "router", "database index", "container image",
    "load balancer", "passport", "tax return", "library card", "gym membership", "train ticket", "hotel booking",
    "phone contract", "insurance policy",
)  # fmt: skip
_VERBS = (
    "reset", "cancel", "renew", "export", "share", "delete", "rename", "upgrade", "transfer", "protect",
    "restore", "duplicate", "archive", "verify", "translate", "print", "schedule", "move", "lock", "inspect",
)  # fmt: skip
_PLACES = (
    "in Lisbon", "from my phone", "for a friend", "after the trial", "without a receipt", "on Linux", "before Friday",
    "in the new version", "at the airport", "for my company", "in dark mode", "over the phone", "as a guest",
    "from abroad", "during maintenance", "with two factors", "in Spanish", "for next year", "on a tablet", "by post",
)  # fmt: skip
COUNT = len(_THINGS) * len(_VERBS) * len(_PLACES)


def question(number: int) -> str:
    """Return question `number`; different for the first `COUNT` numbers."""
    verb, rest = _VERBS[number % len(_VERBS)], number // len(_VERBS)
    thing, rest = _THINGS[rest % len(_THINGS)], rest // len(_THINGS)
    return f"How do I {verb} my {thing} {_PLACES[rest % len(_PLACES)]}?"


def reworded(number: int) -> str:
    """Return the same question in other words."""
    return question(number).replace("How do I", "How can I", 1)
