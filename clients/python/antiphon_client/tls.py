"""TLS of a client: which files hold its certificates."""

from __future__ import annotations

from pathlib import Path

import grpc


class TlsFileError(Exception):
    """A file of certificates cannot be used. `field` is the one of `Tls`; the text holds nothing of the file."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class Tls:
    """PEM files: who signs the servers (unset: the well-known authorities), and what this client shows of itself.

    The private key must not be encrypted. `ValueError` if one of `cert_file` and `key_file` is given alone.
    """

    def __init__(
        self,
        ca_file: Path | str | None = None,
        cert_file: Path | str | None = None,
        key_file: Path | str | None = None,
    ) -> None:
        if (cert_file is None) != (key_file is None):
            raise ValueError("give both cert_file and key_file, or neither")
        self.ca_file = _path(ca_file)
        self.cert_file = _path(cert_file)
        self.key_file = _path(key_file)

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC needs, from the files as they are now; `TlsFileError`."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read("ca_file", self.ca_file),
            private_key=_read("key_file", self.key_file),
            certificate_chain=_read("cert_file", self.cert_file),
        )


def _path(given: Path | str | None) -> Path | None:
    return None if given is None else Path(given).expanduser()


def _read(field: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsFileError(field, f"the file cannot be read ({type(error).__name__})") from None
