"""Texts to the token ids of one encoder, whole: nothing is truncated and no padding is added."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from services.chassis.errors import FailedPrecondition, InvalidRequest, Reason
from services.embedding.windows import body_windows, spans

EXACT_CHARACTERS = 1_000
"""Up to this length a text is tokenized to count its windows (about 1 ms at worst); beyond, a sample is."""

MAX_CHARACTERS_PER_PIECE = 16
"""Prose has 4 to 5 characters for each piece. What has more (runs of blanks, words the vocabulary lacks) is refused
beyond the limit of windows, before the tokenizer spends time on it."""


@dataclass(frozen=True, slots=True)
class PieceText:
    """A text as the encoder reads it: the spans of `services.embedding.windows`, framed by special tokens."""

    windows: tuple[tuple[int, ...], ...]
    tokens: int
    """Pieces of the text itself, counted once although windows overlap and are framed."""


class Pieces:
    """One encoder's tokenizer and window. `split` is not for several threads at once; the others may run beside it."""

    def __init__(self, tokenizer: Tokenizer, *, window: int, max_windows: int) -> None:
        """`window` counts pieces including the special tokens; a text of more than `max_windows` is refused."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # "[SEP]" in a caller's text is text, not a command to the encoder.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._prefix, self._suffix = _frame(tokenizer)
        self._capacity = window - len(self._prefix) - len(self._suffix)
        if self._capacity < 1:
            raise FailedPrecondition(
                f"a window of {window} pieces leaves no room for text", reason=Reason.EMBEDDER_MISMATCH
            )
        self._max_windows = max_windows
        self._unknown = _unknown(tokenizer)

    @classmethod
    def from_file(cls, path: Path, *, window: int, max_windows: int) -> Pieces:
        """From a `tokenizer.json`; one that cannot be read is `FailedPrecondition`."""
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust library raises bare `Exception`
            raise FailedPrecondition(
                f"{path} is not a tokenizer that can be read", reason=Reason.EMBEDDER_MISMATCH
            ) from error
        return cls(tokenizer, window=window, max_windows=max_windows)

    def split(self, text: str) -> PieceText:
        """The text's windows; a text of more than `max_windows` is `InvalidRequest` (CONTEXT_TOO_LONG)."""
        if len(text) > self._max_windows * self._capacity * MAX_CHARACTERS_PER_PIECE:
            raise self._too_long()
        ids = self._ids(text)
        if body_windows(len(ids), self._capacity) > self._max_windows:
            raise self._too_long()
        ranges = spans(len(ids), self._capacity)
        return PieceText(tuple((*self._prefix, *ids[start:end], *self._suffix) for start, end in ranges), len(ids))

    def estimate(self, text: str) -> int:
        """Windows of the text, its two short edges counted as one.

        Exact up to `EXACT_CHARACTERS`, beyond that from the density of pieces at both ends of the text.
        """
        # No tokenizer of an encoder makes more pieces than the text has bytes.
        if len(text) * 4 <= self._capacity:
            return 1
        if len(text) <= EXACT_CHARACTERS:
            pieces = len(self._ids(text))
        else:
            half = EXACT_CHARACTERS // 2
            sampled = len(self._ids(text[:half])) + len(self._ids(text[-half:]))
            pieces = -(-sampled * len(text) // (2 * half))
        body = body_windows(pieces, self._capacity)
        return body if body == 1 else body + 1

    def is_known(self, text: str) -> bool:
        """Whether the text has no more than `max_windows`, and no piece that the vocabulary lacks."""
        if len(text) > self._max_windows * self._capacity * MAX_CHARACTERS_PER_PIECE:
            return False
        ids = self._ids(text)
        return body_windows(len(ids), self._capacity) <= self._max_windows and self._unknown not in ids

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(well_formed(text), add_special_tokens=False).ids

    def _too_long(self) -> InvalidRequest:
        return InvalidRequest(
            f"the text needs more than {self._max_windows} windows of the embedder", reason=Reason.CONTEXT_TOO_LONG
        )


def well_formed(text: str) -> str:
    """The text with lone surrogates replaced by "?": no encoder, and no UTF-8, can hold them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _unknown(tokenizer: Tokenizer) -> int | None:
    """The id of the piece that stands for all that the vocabulary lacks; None if it lacks nothing."""
    name = json.loads(tokenizer.to_str())["model"].get("unk_token")
    return None if name is None else tokenizer.token_to_id(name)


def _frame(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that the tokenizer puts before and after a text."""
    probe = tokenizer.encode("a")
    if 0 not in probe.special_tokens_mask or any(probe.type_ids):
        raise FailedPrecondition(
            "the encoder's tokenizer frames texts in an unknown way", reason=Reason.EMBEDDER_MISMATCH
        )
    marks = list(zip(probe.ids, probe.special_tokens_mask, strict=True))
    before = tuple(piece for piece, _ in itertools.takewhile(lambda mark: mark[1], marks))
    after = tuple(piece for piece, _ in itertools.takewhile(lambda mark: mark[1], reversed(marks)))
    return before, after[::-1]
