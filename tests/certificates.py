"""Certificates for tests: an authority, and what it signs, as PEM files."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_VALID = dt.timedelta(days=2)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(common: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALID)
        .not_valid_after(now + _VALID)
    )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Pair:
    """A certificate with its private key, in PEM format."""

    cert: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Put both into `folder` as a careful tool does, each file at once; return where."""
        return replace(folder / f"{name}.pem", self.cert), replace(folder / f"{name}.key", self.key)


class Authority:
    """Signs certificates for this machine."""

    def __init__(self, name: str = "test authority") -> None:
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        self.pem = pem(builder.sign(self._key, hashes.SHA256()))

    def issue(self, name: str = "localhost") -> Pair:
        """A certificate for loopback, good for servers and clients."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = _builder(name, self._name, key).add_extension(x509.SubjectAlternativeName(names), False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pair(pem(builder.sign(self._key, hashes.SHA256())), private)


def replace(path: Path, content: bytes) -> Path:
    """Put `content` in the place of the file, so that a reader sees the old or the new one."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)
    return path
