"""TLS as the settings say: what the servers of a process show and demand, and how it calls other servers.

    tls = ServerTls(settings, telemetry)        # None of this without `settings.tls_cert_file`
    server.add_secure_port(address, tls.credentials())

Changed files are taken over within a second, by new connections; those that are open stay. A change that cannot be
used is logged and counted, and what was in force stays in force.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import grpc

from antiphon_client.pem_files import CHECK_SECONDS, PemFiles, Pems, PemWatch, TlsFileError
from antiphon_client.tls import Tls
from services.chassis.settings_model import SettingsError, SuiteSettings
from services.chassis.telemetry import Telemetry

_PAIR = {"cert_file": "ANTIPHON_TLS_CERT_FILE", "key_file": "ANTIPHON_TLS_KEY_FILE"}
_OF_SERVERS = {**_PAIR, "ca_file": "ANTIPHON_TLS_CLIENT_CA_FILE"}
_OF_CLIENTS = {**_PAIR, "ca_file": "ANTIPHON_TLS_CA_FILE"}


class ServerTls:
    """The certificates of a server, always the newest usable ones; `SettingsError` if there are none at the start."""

    def __init__(self, settings: SuiteSettings, telemetry: Telemetry, *, interval: float = CHECK_SECONDS) -> None:
        """Read the files that the settings name, which must name a certificate. Blocks."""
        self._telemetry = telemetry
        self._demands = settings.tls_client_ca_file is not None
        files = PemFiles(settings.tls_client_ca_file, settings.tls_cert_file, settings.tls_key_file)
        try:
            self._watch = PemWatch(files, changed=self._loaded, refused=self._kept, interval=interval)
        except TlsFileError as error:
            raise _wrong(error, _OF_SERVERS) from None
        self._shown = self._watch.pems

    def credentials(self) -> grpc.ServerCredentials:
        """For a listening port of gRPC, once: callers must show a certificate if the settings name a client CA."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._shown), self._newer, require_client_authentication=self._demands
        )

    @property
    def context(self) -> ssl.SSLContext:
        """For a new connection to a server that is not gRPC's; callers are not asked for a certificate."""
        return self._watch.pems.context

    def close(self) -> None:
        """Stop watching the files."""
        self._watch.close()

    def _newer(self) -> Any:
        """What the next connection is to be shown, None if that is as before; called by gRPC, in its threads."""
        pems = self._watch.pems
        if pems is self._shown:
            return None
        self._shown = pems
        return _configuration(pems)

    def _loaded(self, _: Pems) -> None:
        self._telemetry.certificate_reloads.labels("loaded").inc()
        self._telemetry.log.info("certificates reloaded")

    def _kept(self, error: TlsFileError) -> None:
        self._telemetry.certificate_reloads.labels("kept").inc()
        self._telemetry.log.error(
            "certificates not reloaded, the old ones stay", setting=_OF_SERVERS[error.field], problem=error.problem
        )


def client_tls(settings: SuiteSettings) -> Tls | None:
    """How this process calls the other services; None: in plaintext. `SettingsError` if a file cannot be used. Blocks.

    It shows its own certificate if it has one: servers may demand it.
    """
    if settings.tls_ca_file is None and settings.tls_cert_file is None:
        return None
    tls = Tls(settings.tls_ca_file, settings.tls_cert_file, settings.tls_key_file)
    try:
        tls.files.read()
    except TlsFileError as error:
        raise _wrong(error, _OF_CLIENTS) from None
    return tls


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    if pems.key is None or pems.cert is None:
        raise ValueError("a server needs a certificate")
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.cert)], pems.ca)


def _wrong(error: TlsFileError, settings: Mapping[str, str]) -> SettingsError:
    return SettingsError(settings[error.field], error.problem)
