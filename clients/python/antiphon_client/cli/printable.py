"""Text of others on a terminal: what it says is shown, and never done.

A prompt or an answer may hold control characters, by which a terminal moves its cursor, changes its title or worse
(ECMA-48: C0, DEL and C1; a byte sequence that begins with ESC or CSI), and marks that turn the direction of what
follows (Unicode's Bidi_Control), by which a line reads otherwise than it is. They are shown as `\\x1b` or `\\u202e`,
but for line ends and tabs. Where stdout is no terminal, bytes are passed on as they are.
"""

from __future__ import annotations

import json
import re
import sys

_TURNING = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROLS = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_TURNING}]")
_NOT_ESCAPED_BY_JSON = re.compile(rf"[\x7f-\x9f{_TURNING}]")


def escaped(text: str) -> str:
    """Return the text with its control characters made visible."""
    return _CONTROLS.sub(_named, text)


def printable(text: str, *, err: bool = False) -> str:
    """Return what to write to stdout, or to stderr: the text, escaped if a terminal is there."""
    return escaped(text) if (sys.stderr if err else sys.stdout).isatty() else text


def json_line(value: object) -> str:
    """Return one line of JSON, readable in any language, that holds no control character."""
    text = json.dumps(value, ensure_ascii=False)
    return _NOT_ESCAPED_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _named(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"
