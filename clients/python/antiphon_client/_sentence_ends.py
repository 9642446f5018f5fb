"""What ends a sentence, and what only looks like it: stops, closing marks, abbreviations, and the words around them."""

from __future__ import annotations

import re

from antiphon_client import _sentence_words as words

CLOSING = "\"'”’“‘»«›‹)\\]}*_~」』】〉》）〕］"
"""Marks that belong to the sentence before them; a class of a regular expression."""

CLOSING_AFTER_SPACE = "\"'”’»›*_~」』】〉》）〕］"
"""Those that do so also with a space before them, as in French."""

OPENING = "\"'“”‘’„‚»«›‹(\\[{*_~¿¡「『【〈《（〔［"
"""Marks that belong to the sentence after them; a class of a regular expression."""

HARD = "。！？｡．।॥؟۔"
"""Stops that need no space after them: Chinese and Japanese, Devanagari, Arabic and Urdu."""

WORD_CHARS = 64
"""Characters that are kept of a word's end: more than any abbreviation has, with its brackets."""

NEXT_CHARS = 16
"""Characters of the next word that are looked at: more than any word in the lists below has."""

STOPPED = re.compile(rf"([.?!…։።។။{HARD}]+)((?:[{CLOSING}]|\[\d{{1,3}}\])*)$")
"""The end of a word that may end a sentence: the stops, and the closing marks and numbers of notes after them."""

_NEXT = re.compile(rf"(?:>[ \t]?){{0,4}}[{OPENING}]{{0,8}}(\w{{0,{NEXT_CHARS}}})")
_ONLY_CLOSING = re.compile(rf"[{CLOSING_AFTER_SPACE}]{{1,4}}(?=\s)|[)\]}}]")
_ONLY_CLOSING_LAST = re.compile(rf"[{CLOSING_AFTER_SPACE}]{{1,4}}(?=\s|\Z)|[)\]}}]")
_MAY_BE_ONLY_CLOSING = re.compile(rf"[{CLOSING_AFTER_SPACE}]{{1,4}}\Z")
_LAST_WORD = re.compile(r"[^\W_](?:[\w.'’-]*\w)?$")
_DOTTED = re.compile(r"(?:[^\W\d_]{1,3}\.-?)+[^\W\d_]{1,3}")

_PARTICLES = "とってなでのはがをにもへ"
"""How a Japanese sentence goes on after what it quotes."""


class UndecidedError(Exception):
    """The text so far does not say; more of it will."""


def following(text: str, start: int, *, whole: bool, final: bool) -> str:
    """Return the next word without its opening marks, at most `NEXT_CHARS`; its first two characters unless `whole`.

    A mark if no word follows. Raises `UndecidedError` if that lies behind the end of a text that goes on.
    """
    found = _NEXT.match(text, start)
    if found is None:
        raise AssertionError("the expression matches everything")
    word = found[1]
    if found.end() == len(text) and not final and len(word) < (NEXT_CHARS if whole else 2):
        # Most decisions need only the kind of the first character, and the next one only after a small letter.
        if not word or whole or word.islower():
            raise UndecidedError
        return word
    return word or text[found.end() : found.end() + 1] or text[start]


def only_closing(text: str, start: int, *, final: bool) -> bool:
    """Whether what follows belongs to what was before, though there is a space between them: `« Oui ! »`.

    Raises `UndecidedError` as `following`.
    """
    if final:
        return _ONLY_CLOSING_LAST.match(text, start) is not None
    if _MAY_BE_ONLY_CLOSING.match(text, start):
        raise UndecidedError
    return _ONLY_CLOSING.match(text, start) is not None


def ends(word: str, text: str, start: int, *, first: bool, glued: bool, final: bool) -> bool:
    """Whether a sentence ends between `word` and what follows at `start`, with white space but no empty line between.

    `first`: the word is the first of its sentence; `glued`: the space is one that must not break.
    Raises `UndecidedError` as `following`.
    """
    stopped = STOPPED.search(word)
    if stopped is None or text[start] in ",;:.?!…)]}":
        return False
    stops, closing = stopped[1], stopped[2]
    if set(stops) <= {".", "…"}:
        if glued:
            return False
        return _full_stop_ends(word[: stopped.start()], stops, text, start, first=first, final=final)
    if stops[-1] in "?!" and (closing or len(stops) == 1):
        return not _goes_on(following(text, start, whole=False, final=final))
    return True


def _goes_on(word: str) -> bool:
    """Whether a word is no beginning: a small letter, but for names such as `iPhone`."""
    return word[0].islower() and not word[1:2].isupper()


def _full_stop_ends(  # noqa: PLR0911 -- a list of rules, the first that applies
    before: str, stops: str, text: str, start: int, *, first: bool, final: bool
) -> bool:
    if _goes_on(following(text, start, whole=False, final=final)):
        return False
    if len(stops) > 1 or stops == "…":
        return True
    last = _LAST_WORD.search(before)
    if last is None:
        return True
    word = last[0].lower()
    if word.isdecimal():
        return _number_ends(word, text, start, first=first and last.start() == 0, final=final)
    capital = last[0][0].isupper()
    if word in words.NEVER or (capital and word in words.TITLES):
        return False
    numbered = word in words.BEFORE_NUMBERS or word.endswith("str")  # as streets do in German
    if numbered and following(text, start, whole=False, final=final)[0].isdecimal():
        return False
    if _is_initial(before, last.start()) or word in words.MAYBE or _DOTTED.fullmatch(word):
        after = following(text, start, whole=True, final=final).lower()
        if word in words.CLOCK:
            return after not in words.AFTER_CLOCK
        return after in words.STARTERS or not after[0].isalnum()
    return True


def _is_initial(word: str, start: int) -> bool:
    """Whether the letters of a word from `start` on are one that stands for a name, or a word as in `z. B.`."""
    letter = word[start:]
    alone = start == 0 or word[start - 1] in OPENING
    return alone and len(letter) == 1 and letter not in "iI" and (letter.isupper() or letter.isascii())


def _number_ends(number: str, text: str, start: int, *, first: bool, final: bool) -> bool:
    if len(number) > 2:
        return True
    if first:
        return False  # it numbers an item
    return following(text, start, whole=True, final=final).lower() not in words.AFTER_ORDINALS


def hard_stop_ends(stops: str, closing: str, after: str) -> bool:
    """Whether a sentence ends at stops that need no space, before the character `after`; empty: the end of the text."""
    if not any(stop in HARD for stop in stops):
        return is_ideographic(after) and stops[-1] in "?!"
    if stops == "．" and after.isdecimal():
        return False
    return not (closing and after and after in _PARTICLES)


def is_ideographic(character: str) -> bool:
    """Whether a character is Chinese, Japanese kana included: scripts without spaces."""
    return character != "" and (
        "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff"
    )
