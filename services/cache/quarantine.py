"""When an entry is not served any more because of what was said about it: the only place that decides this.

    operator   at once, to every question, its own too: whoever says so has looked at the answer and is responsible for
               it. The operator's last word counts: "right" serves the entry again, and what was said before is settled.
    judge,     at once: they compare answers by rule, and a wrong answer costs more than one that is made anew. Only
    audit      the operator takes it back.
    users      when several people say so, and more than say otherwise: people take dislike for an error, and
               one of them must not be able to empty a cache. Which number, `ANTIPHON_CACHE_QUARANTINE_USERS` says.

What is said about an answer to another question than its own says that the two do not belong together, not that the
answer is wrong: the entry stays for its own question. Another answer to the question is a new entry, and nothing was
said about that; the same words once more are not.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.cache.review import FeedbackSource, Quarantine, Review, Said

AT_ONCE = frozenset({FeedbackSource.JUDGE, FeedbackSource.AUDIT})

USERS = "users"
"""The rule of several people; the others are named after their source."""


def reviewed(review: Review, said: Said, *, users: int, named: bool = False) -> Review:
    """The review with one more voice; `users`: how many people it takes. Unchanged if this was said before.

    `named`: see `Review.knows`.
    """
    if review.knows(said, named=named):
        return review
    voices = review.heard(said)
    before, now = review.quarantine, _quarantine(voices, users)
    if before is not None and now is not None and (before.rule, before.whole) == (now.rule, now.whole):
        now = before
    return Review(voices, now)


def _quarantine(voices: Sequence[Said], users: int) -> Quarantine | None:
    for place in reversed(range(len(voices))):
        word = voices[place]
        if word.source is FeedbackSource.OPERATOR:
            if not word.right:
                return Quarantine(word.source.value, whole=True, at_us=word.at_us)
            voices = voices[place + 1 :]
            break
    # An answer that is wrong for its own question is wrong for reworded ones as well.
    own = [one for one in voices if not one.semantic]
    return _by(own, users, whole=True) or _by(voices, users, whole=False)


def _by(voices: Sequence[Said], users: int, *, whole: bool) -> Quarantine | None:
    wrong = [one for one in voices if not one.right]
    for one in wrong:
        if one.source in AT_ONCE:
            return Quarantine(one.source.value, whole=whole, at_us=one.at_us)
    people = {one.by for one in wrong if one.source is FeedbackSource.USER}
    content = {one.by for one in voices if one.right and one.source is FeedbackSource.USER} - people
    if len(people) >= users and len(people) > len(content):
        return Quarantine(USERS, whole=whole, at_us=max(one.at_us for one in wrong))
    return None
