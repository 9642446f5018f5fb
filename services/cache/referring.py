"""Whether a question leans on what was said before, so that only its own words may find a stored answer.

Follow-ups ("and in French?", "yes", "the second one") lie close together for every sentence encoder although they ask
for different things. The rule errs towards True; the price is a hit that was not served. Words that refer are looked
for first, then the length counts. It knows English only: after earlier turns a text that it cannot tell to be English
gets the exact tier, however long it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

SHORT_WORDS = 3
"""After earlier turns, a text of at most this many words is taken to be a follow-up whatever it says."""

OPENED_WORDS = 6
"""A text that opens with a conjunction and is no longer goes on with something, said here or elsewhere."""

SELF_CONTAINED_WORDS = 12
"""From so many words on, what a pronoun stands for is mostly in the text itself, unless the pronoun comes early."""

EARLY_WORDS = 5
"""Before a pronoun, so few words hardly name what it stands for."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_REPLIES = _words(
    """
    yes yeah yep yup no nope nah ok okay sure right correct exactly indeed true false maybe perhaps please
    thanks thank you continue go on proceed next more again stop done agreed fine good great cool and also so
    then why how
    ja nein doch weiter mehr bitte danke warum genau richtig oui non merci encore pourquoi continuez continue
    si sí claro gracias más continúa continua sigue por qué porque sim não obrigado mais continue perché ancora
    grazie avanti nee graag waarom meer verder tak nie dlaczego dalej dziękuję evet hayır devam teşekkürler neden
    да нет дальше ещё почему спасибо продолжай так ні далі чому hai はい いいえ 続けて なぜ もっと 是 是的 不 好 好的
    继续 为什么 更多 谢谢 네 아니요 계속 왜 더 نعم لا تابع لماذا أكمل
    """
)
"""A text of these alone answers or asks for something that it does not name, even where it opens a conversation."""

_OPENERS = _words("and but then also und aber oder et mais och og ama и а но або але そして でも 그리고 而且 那么")
"""Conjunctions with which a text goes on, as far as they are nothing else: not "a", "e", "i", "o", "y"."""

_REFERRING = _words(
    """
    it its it's that that's this these those they them their theirs he him his she her hers one ones same other
    others another again more else instead above below previous earlier former latter first second third last
    next both neither either each there then also too such so yours mine ours we us and but or because with
    without shorter longer better simpler different
    """
)
"""In a short text each of these may stand for something that was said."""

_PRONOUNS = _words("it its it's this these those they them their theirs he him his she her hers")
"""In a longer one, those that come before anything they could stand for."""

_POINTING = _words("that that's")
"""As these, but within three words only: further on "that" mostly joins clauses."""

_BACK = re.compile(
    r"""
      ^(?:and|but|or|so|also|then|ok|okay|thanks|no|yes|yeah|great|what\ about|how\ about)\b
    | \b(?:above|aforementioned|previously|former\ one|latter|do\ the\ same|same\ (?:but|for|with)
        |instead\ of\ (?:that|this|it))\b
    | \b(?:you|you've)\ (?:just\ |already\ )?(?:said|mentioned|wrote|gave|listed|suggested|told|described|showed|shown
        |explained|used|recommended|made|created|generated|proposed|provided|meant)\b
    | \byour\ (?:last|first|second|third|previous|earlier|answer|response|reply|suggestions?|examples?|list|summary
        |explanation|version|solution|recommendations?|translation|draft|proposal)\b
    | \b(?:that|this|other|another|first|second|third|fourth|last|next|previous|earlier)\ (?:ones?|options?|examples?
        |answers?|points?|paragraphs?|sentences?|versions?|steps?|items?|suggestions?|solutions?)\b
    | \b(?:make|rewrite|translate|explain|summari[sz]e|expand|shorten|rephrase|repeat|convert|simplify)\ (?:it|this|that
        |these|those|them)\b
    """,
    re.VERBOSE,
)
"""Phrases that point at what was said before, in a text of any length."""

_EXPLETIVE = re.compile(r"\bit (?:\w+ ){0,3}?(?:to|that|for|if|when|(?:possible|true|like)(?: to| that)?)\b")
"""Where "it" announces what follows: "Is it too late to …", "Is it true that …"."""

_ENGLISH = _words(
    """
    the what how which who why where when with could would should does did you your this that from they were
    been there their these those because than some don't doesn't isn't can't won't what's i'm i've its it's
    about into if not between please much many best
    """
)
"""Words by which an English sentence is known: no other language has them."""

_PERHAPS_ENGLISH = _words("an am are and of or is be can will has on by we i my to have for at me a")
"""Words of English that other languages have, too; three different ones in plain letters count as one of the above."""

_FOREIGN = _words(
    """
    der das dem und ist nicht ein eine einen wie warum auf für von zu kann ich du sie wir mir bitte
    le les une est que qui dans avec ce cette quel quelle comment pourquoi je vous il elle aux
    el los las es una por para con cómo qué cuál dónde su se y di che il gli sono del della
    os um uma não são você em het een voor niet wat hoe waarom dat ik je det är att på
    som hur vad jag och med av og ikke hvad hvordan jeg er nie jest jak czy dla bir bu ne nasıl için
    """
)
"""Words of other languages that English has not: "was kostet das in Berlin" is none for its "was" and "in"."""


def refers_back(text: str, *, has_earlier_turns: bool) -> bool:
    """Whether only the exact tier may answer `text`, the last message of a conversation.

    `has_earlier_turns`: messages of a user, an assistant or a tool stand before it.
    """
    plain = text.lower().replace("’", "'")
    words = _WORD.findall(plain)
    if not words or all(word in _REPLIES for word in words):
        return True
    if len(words) <= OPENED_WORDS and words[0] in _OPENERS:
        return True
    if not has_earlier_turns:
        return False
    if len(words) <= SHORT_WORDS or not _is_english(words) or _BACK.search(" ".join(words)):
        return True
    if len(words) < SELF_CONTAINED_WORDS:
        return any(word in _REFERRING for word in words)
    left = _EXPLETIVE.sub(" ", " ".join(words)).split()
    return not _PRONOUNS.isdisjoint(left[:EARLY_WORDS]) or not _POINTING.isdisjoint(left[:SHORT_WORDS])


def _is_english(words: Sequence[str]) -> bool:
    english = sum(word in _ENGLISH for word in words)
    foreign = sum(word in _FOREIGN for word in words)
    perhaps = len(_PERHAPS_ENGLISH.intersection(words)) > 2 and all(word.isascii() for word in words)
    return english + perhaps > foreign
