"""The token that callers must send: whoever may read the file may use the store."""

from __future__ import annotations

import secrets
from pathlib import Path

from services.chassis.settings import SettingsError
from services.edgestore.files import replace_file

FILE_NAME = "edgestore.token"
_VARIABLE = "ANTIPHON_EDGESTORE_TOKEN_FILE"


def load_token(state_dir: Path, token_file: Path | None) -> str:
    """The token in `token_file`, which must exist, or else in the state folder, where it is made if absent (0600).

    The caller holds the folder's lock. Raises SettingsError.
    """
    if token_file is not None:
        try:
            given = _read(token_file)
        except OSError as error:
            raise SettingsError(_VARIABLE, f"the file cannot be read ({type(error).__name__})") from None
        if not given:
            raise SettingsError(_VARIABLE, "the file is empty or not ASCII")
        return given
    own = state_dir / FILE_NAME
    if own.exists() and (token := _read(own)):
        return token
    token = secrets.token_urlsafe(32)
    replace_file(own, token.encode("ascii"))
    return token


def _read(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    return text if text.isascii() else ""
