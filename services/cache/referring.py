"""Whether a question leans on what was said before, so that only its own words may find a stored answer.

Short follow-ups ("and in French?", "yes", "the second one") lie close together for every sentence encoder although
they ask for different things. The rule errs towards True; the price is a hit that was not served.
"""

from __future__ import annotations

import re

SHORT_WORDS = 3
"""After earlier turns, a text of at most this many words is taken to be a follow-up whatever it says."""

SELF_CONTAINED_WORDS = 12
"""A text of at least this many words says enough by itself: the turns before it are in the fingerprint anyway."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_REPLIES = _words(
    """
    yes yeah yep yup no nope nah ok okay sure right correct exactly indeed true false maybe perhaps please
    thanks thank you continue go on proceed next more again stop done agreed fine good great cool and also so
    then why how ja nein oui non si sí da hai weiter continuer continúa
    """
)
"""A text of these alone answers or asks for something that it does not name, even where it opens a conversation."""

_REFERRING = _words(
    """
    it its it's that that's this these those they them their theirs he him his she her hers one ones same other
    others another again more else instead above below previous earlier former latter first second third last
    next both neither either each there then also too such so yours mine ours we us and but or because with
    without shorter longer better simpler different
    """
)

_ENGLISH = _words(
    """
    a an the is are was were be do does did can could will would should may might must have has i you my your of
    in on at to for from by about into as if when where who what which how why not
    """
)
"""Words by which an English sentence is known. In other languages the list above finds nothing, so it cannot clear
a text."""


def refers_back(text: str, *, has_earlier_turns: bool) -> bool:
    """Whether only the exact tier may answer `text`, the last message of a conversation.

    `has_earlier_turns`: messages of a user, an assistant or a tool stand before it.
    """
    words = [word.replace("’", "'") for word in _WORD.findall(text.lower())]
    if not words or all(word in _REPLIES for word in words):
        return True
    if not has_earlier_turns:
        return False
    if len(words) <= SHORT_WORDS:
        return True
    if not text.isascii() and not any(word in _ENGLISH for word in words):
        # Another language, perhaps one that does not put spaces between words: count what a word costs there.
        return len(text) < SELF_CONTAINED_WORDS * 3 or len(words) < SELF_CONTAINED_WORDS
    if len(words) >= SELF_CONTAINED_WORDS:
        return False
    return any(word in _REFERRING for word in words) or not any(word in _ENGLISH for word in words)
