"""What decides an entry's address besides its words, tenant, namespace and embedder: it serves under any key."""

from __future__ import annotations

from dataclasses import dataclass

from services.llm.values import Part, TextPart


@dataclass(frozen=True, slots=True)
class Origin:
    """How a question was asked. Kept with its entry, which can so move to a cache with another key or embedder.

    `digest` stands for tools, options, objective and the messages before the last one. With an entry it is sealed with
    the store's key, because whoever reads the store must not be able to guess them (`Addresses.sealed`).
    """

    model: str
    """The requested one."""
    digest: bytes
    author: str = ""
    """Name of who wrote the last message, if it is a user's text."""
    in_words: bool = True
    """The last message is a user's text; else `digest` covers it, too."""
    follows: bool = False
    """Turns of a conversation come before it."""
    lengths: tuple[int, ...] = ()
    """Characters of each part of the question's text, if there are several: they are joined by line breaks."""

    def parts(self, text: str) -> tuple[str, ...]:
        """The parts of the question's text. Raises ValueError if it has other ones."""
        if not self.lengths:
            return (text,)
        found, place = [], 0
        for length in self.lengths:
            found.append(text[place : place + length])
            place += length + 1
        if "\n".join(found) != text:
            raise ValueError("the text is not made of these parts")
        return tuple(found)


def lengths_of(parts: tuple[Part, ...]) -> tuple[int, ...]:
    """What `Origin.lengths` says of a message of these parts."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    return tuple(map(len, texts)) if len(texts) > 1 else ()
