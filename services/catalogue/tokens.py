"""How many tokens a request or a text takes: exact with the model's tokenizer, else from UTF-8 lengths; always bounded.

**The upper bound.** A token of a byte-level BPE vocabulary (OpenAI, Llama 3, Qwen, later Mistral) stands for one byte
of the text or more, so a text never has more tokens than UTF-8 bytes; SentencePiece models with byte fallback add one
for the space that they put in front. Hence `bytes + 1` per text. It does not hold for tokenizers that expand characters
before they split (NFKC of a few ligatures). What a chat template writes around messages, tools and pictures is the
server's secret; for these there are the constants below, larger than what the published templates of those families
write.

**The expectation** is a rule of thumb: English prose has about 4 bytes per token, other scripts one token per one or
two characters. Costs shown before a call come from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from services.catalogue.catalogue import Catalogue, CatalogueError
from services.catalogue.values import Model
from services.chassis.value import value
from services.llm.values import GenerationOptions, ImagePart, Json, Message, TextPart, Tool

MESSAGE_TOKENS = (4, 16)
"""Expected and most tokens that a template writes around one message (role and separators: 3 to 6 in practice)."""
REQUEST_TOKENS = (3, 64)
"""Around all messages: begin of text, the answer's header, a template's built-in system prompt (up to about 30)."""
TOOL_TOKENS = (8, 64)
"""Around one tool's name, description and schema."""
TOOL_CALL_TOKENS = (8, 32)
"""Around one tool call of an assistant."""
JSON_GROWTH = 2
"""Templates print a schema with indentation; its tokens are at most this many times those of the compact form."""
IMAGE_TOKENS_EXPECTED = 765
"""A 1024 × 1024 picture in full detail (OpenAI's vision guide); the upper bound is the model's `image_tokens`."""

SOON_CHARS = 32_768
"""Characters whose tokens may be counted on an event loop."""

EXACT_CHARS = 262_144
"""A longer text is estimated even if its tokenizer is at hand: tokenizing takes far longer than routing may."""

_MOST_BYTES = 4
"""Of a character in UTF-8."""

_LETTERS_PER_TOKEN = 4.2
_DIGITS_PER_TOKEN = 3.0
_SIGNS_PER_TOKEN = 1.5
_TWO_BYTE_CHARS_PER_TOKEN = 2.0
_THREE_BYTE_CHARS_PER_TOKEN = 1.0
_FOUR_BYTE_CHARS_PER_TOKEN = 0.5

_DIGITS = b"0123456789"
_SIGNS = bytes(b for b in range(33, 127) if not bytes([b]).isalnum())
_TWO_BYTE_LEADS = bytes(range(0xC0, 0xE0))
_THREE_BYTE_LEADS = bytes(range(0xE0, 0xF0))
_FOUR_BYTE_LEADS = bytes(range(0xF0, 0xF8))
_HIGH_BYTES = bytes(range(0x80, 0x100))


@value
class TokenEstimate:
    """A number of tokens: what to expect, and a bound that it does not exceed (equal if `exact`)."""

    expected: int
    upper: int
    exact: bool = False

    @property
    def prudent(self) -> int:
        """What to plan a context with: half as much again as expected, within the bound. Bytes alone would refuse
        English prompts of a quarter of the context."""
        return min(self.upper, -(-3 * self.expected // 2))

    def __add__(self, other: TokenEstimate) -> TokenEstimate:
        return TokenEstimate(self.expected + other.expected, self.upper + other.upper, self.exact and other.exact)


def estimate_text(text: str) -> TokenEstimate:
    """Estimate the tokens of `text` from the lengths of its UTF-8 form; linear, about 1 ms per megabyte."""
    data = text.encode("utf-8", "surrogatepass")
    if not data:
        return TokenEstimate(0, 0, exact=True)

    def count(of: bytes) -> int:
        return len(data) - len(data.translate(None, of))

    digits, signs = count(_DIGITS), count(_SIGNS)
    letters = len(data) - digits - signs - count(_HIGH_BYTES)
    expected = (
        letters / _LETTERS_PER_TOKEN
        + digits / _DIGITS_PER_TOKEN
        + signs / _SIGNS_PER_TOKEN
        + count(_TWO_BYTE_LEADS) / _TWO_BYTE_CHARS_PER_TOKEN
        + count(_THREE_BYTE_LEADS) / _THREE_BYTE_CHARS_PER_TOKEN
        + count(_FOUR_BYTE_LEADS) / _FOUR_BYTE_CHARS_PER_TOKEN
    )
    upper = len(data) + 1
    return TokenEstimate(min(upper, max(1, round(expected))), upper)


class TokenCounter:
    """Counts tokens for the models of one catalogue. CPU-bound: call it off the loop for texts of many kilobytes."""

    def __init__(self, tokenizers: dict[Path, Tokenizer]) -> None:
        self._tokenizers = tokenizers

    @classmethod
    def for_catalogue(cls, catalogue: Catalogue) -> Self:
        """Load the tokenizer files that the catalogue names; `CatalogueError` if one cannot be used. Reads files."""
        loaded: dict[Path, Tokenizer] = {}
        for model in catalogue.models:
            path = model.tokenizer
            if path is None or path in loaded:
                continue
            try:
                tokenizer = Tokenizer.from_file(str(path))
            except Exception as error:  # noqa: BLE001 - the library raises bare Exception for any defect of the file
                raise CatalogueError(
                    "tokenizer", f"models.{model.name}.tokenizer", f"cannot be loaded ({type(error).__name__})"
                ) from None
            # Files often carry a training set-up that cuts and pads; and a caller's text may spell out special tokens,
            # which servers do not take for such.
            tokenizer.no_truncation()
            tokenizer.no_padding()
            tokenizer.encode_special_tokens = True
            loaded[path] = tokenizer
        return cls(loaded)

    def text(self, text: str, model: Model) -> TokenEstimate:
        """Count the tokens of a bare text, such as an answer."""
        return self._text(text, model.tokenizer)

    def request(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), options: GenerationOptions | None = None
    ) -> RequestTokens:
        """Prepare the count of a request; it is made once per tokenizer when a model asks for it."""
        return RequestTokens(self, messages, tools, options or GenerationOptions())

    def _text(self, text: str, path: Path | None) -> TokenEstimate:
        tokenizer = None if path is None else self._tokenizers.get(path)
        if tokenizer is None or len(text) > EXACT_CHARS:
            return estimate_text(text)
        # The batch form runs without the GIL.
        count = len(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids)
        return TokenEstimate(count, count, exact=True)


class RequestTokens:
    """The input tokens of one request, for any model of the catalogue."""

    def __init__(
        self, counter: TokenCounter, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> None:
        self._counter = counter
        self._messages = messages
        self._tools = tools
        self._options = options
        self._counted: dict[Path | None, TokenEstimate] = {}

    @cached_property
    def images(self) -> int:
        """Number of pictures in all messages."""
        return sum(isinstance(part, ImagePart) for message in self._messages for part in message.parts)

    def fits(self, model: Model, room: int) -> bool:
        """Whether no more tokens than `room` are to be expected; counted only where the texts' lengths do not tell."""
        return self._most(model) <= room or self.input(model).expected <= room

    def input(self, model: Model) -> TokenEstimate:
        """Return the input tokens for `model`; never exact, because the template around the texts is not known."""
        counted = self._counted.get(model.tokenizer)
        if counted is None:
            counted = self._counted[model.tokenizer] = self._count(model.tokenizer)
        return counted + TokenEstimate(
            self.images * min(IMAGE_TOKENS_EXPECTED, model.image_tokens), self.images * model.image_tokens
        )

    def _most(self, model: Model) -> float:
        """Return a bound that takes no look at the texts; infinite where JSON has to be written for it."""
        if self._tools or self._options.response_format:
            return inf
        calls = sum(len(message.tool_calls) for message in self._messages)
        texts = sum(_MOST_BYTES * len(text) + 1 for text in _texts(self._messages))
        around = REQUEST_TOKENS[1] + MESSAGE_TOKENS[1] * len(self._messages) + TOOL_CALL_TOKENS[1] * calls
        return texts + around + self.images * model.image_tokens

    def _count(self, tokenizer: Path | None) -> TokenEstimate:
        total = _times(REQUEST_TOKENS, 1) + _times(MESSAGE_TOKENS, len(self._messages))
        total += _times(TOOL_TOKENS, len(self._tools))
        total += _times(TOOL_CALL_TOKENS, sum(len(message.tool_calls) for message in self._messages))
        for text in _texts(self._messages):
            total += self._counter._text(text, tokenizer)
        for schema in _schemas(self._tools, self._options):
            size = self._counter._text(schema, tokenizer)
            total += TokenEstimate(size.expected, size.upper * JSON_GROWTH)
        return total


def soon_counted(
    messages: Iterable[Message], tools: Sequence[Tool], options: GenerationOptions, *, beside: int = 0
) -> bool:
    """Whether the tokens of all this, and of a text of `beside` characters, are counted in a millisecond or two.

    Of tools and a wanted format nobody knows before their JSON is written.
    """
    if tools or options.response_format:
        return False
    return beside + sum(map(len, _texts(messages))) <= SOON_CHARS


def _times(bounds: tuple[int, int], n: int) -> TokenEstimate:
    return TokenEstimate(bounds[0] * n, bounds[1] * n)


def _texts(messages: Iterable[Message]) -> Iterator[str]:
    """Yield every text that a template writes out for the messages."""
    for message in messages:
        yield from (part.text for part in message.parts if isinstance(part, TextPart))
        yield message.name
        yield message.tool_call_id
        for call in message.tool_calls:
            yield from (call.id, call.name, call.arguments)


def _schemas(tools: Iterable[Tool], options: GenerationOptions) -> Iterator[str]:
    """Yield the JSON that tools and the wanted answer format add to the input."""
    for tool in tools:
        yield _compact({"name": tool.name, "description": tool.description, "parameters": tool.json_schema})
    if options.response_format:
        yield _compact(options.response_format)


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)
