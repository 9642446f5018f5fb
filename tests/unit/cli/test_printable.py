"""Text of others on a terminal, where it must do nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from antiphon_client.cli.printable import escaped, json_line

EVIL = "a\x1b]0;owned\x07b\x9b2Jc\rd\x7f\ttab\nline"
SAFE = r"a\x1b]0;owned\x07b\x9b2Jc\x0dd\x7f" + "\ttab\nline"


def test_controls_are_shown_and_line_ends_and_tabs_are_kept() -> None:
    assert escaped(EVIL) == SAFE
    assert escaped("Grüße 世界 🌍\n") == "Grüße 世界 🌍\n"
    assert escaped("pay \u202e100\u2069 to me") == r"pay \u202e100\u2069 to me"
    assert escaped("مرحبا שלום") == "مرحبا שלום"


@given(st.text())
def test_json_says_the_same_without_a_control_character(text: str) -> None:
    line = json_line({"text": text})
    assert json.loads(line) == {"text": text}
    assert escaped(line) == line
    assert "\n" not in line


def test_a_pipe_gets_the_bytes_and_a_terminal_their_names() -> None:
    program = (
        "import sys; from antiphon_client.cli.printable import printable; "
        f"sys.stdout.write(printable({EVIL!r}) + '|end')"
    )
    piped = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert piped.decode() == EVIL + "|end"
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stdout=theirs) as process:
        os.close(theirs)
        written = b""
        while not written.endswith(b"|end"):
            written += os.read(ours, 4096)
        assert process.wait(30) == 0
    os.close(ours)
    assert written.decode().replace("\r\n", "\n") == SAFE + "|end"
