"""TLS of a client: the files with its certificates. They are watched: a client that was given a `Tls` follows their
changes without a failed call.

    AsyncCompletionClient("antiphon.example.com:7100", tls=Tls(ca_file="ca.pem"))
    AsyncCompletionClient(target, tls=Tls("ca.pem", "client.pem", "client.key"))  # where servers ask for certificates
"""

from __future__ import annotations

from pathlib import Path

import grpc

from antiphon_client.pem_files import PemFiles, Pems, TlsFileError

__all__ = ["Tls", "TlsFileError", "credentials"]


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
        self.files = PemFiles(_path(ca_file), _path(cert_file), _path(key_file))

    def __repr__(self) -> str:
        return f"Tls({self.files.ca_file!r}, {self.files.cert_file!r}, {self.files.key_file!r})"


def credentials(pems: Pems) -> grpc.ChannelCredentials:
    """What gRPC wants of a channel's certificates."""
    return grpc.ssl_channel_credentials(root_certificates=pems.ca, private_key=pems.key, certificate_chain=pems.cert)


def _path(given: Path | str | None) -> Path | None:
    return None if given is None else Path(given).expanduser()
