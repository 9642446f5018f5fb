"""PEM files: what is usable, and that new ones are taken over only as a whole."""

from __future__ import annotations

import gc
import queue
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from antiphon_client.pem_files import PemFiles, Pems, PemWatch, TlsFileError
from antiphon_client.tls import Tls
from tests.certificates import Authority, Pair, replace

GUARD_SECONDS = 10.0
FAST = 0.01

CA = Authority()


@pytest.fixture
def files(tmp_path: Path) -> PemFiles:
    return PemFiles(replace(tmp_path / "ca.pem", CA.pem), *CA.issue().write(tmp_path, "own"))


def _encrypted(key: bytes) -> bytes:
    private = serialization.load_pem_private_key(key, None)
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"s3cret")
    )


def test_usable_files_are_read_as_they_are(files: PemFiles) -> None:
    pems = files.read()
    assert [pems.ca, pems.cert, pems.key] == [
        path.read_bytes() for path in (files.ca_file, files.cert_file, files.key_file) if path
    ]
    assert PemFiles().read().cert is None


@pytest.mark.parametrize(
    ("field", "content", "said"),
    [
        ("ca_file", None, "cannot be read"),
        ("cert_file", None, "cannot be read"),
        ("key_file", None, "cannot be read"),
        ("ca_file", b"", "no usable certificates"),
        ("ca_file", b"\xff s3cret", "no usable certificates"),
        ("ca_file", b"-----BEGIN CERTIFICATE-----\ns3cret\n-----END CERTIFICATE-----\n", "no usable certificates"),
        ("cert_file", b"s3cret", "not a usable pair"),
        ("key_file", b"s3cret", "no private key"),
        ("key_file", b"-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n", "not a usable pair"),
        ("key_file", CA.issue().key, "does not belong"),
        ("key_file", _encrypted(CA.issue().key), "encrypted"),
    ],
)
def test_an_unusable_file_is_named_and_not_quoted(
    files: PemFiles, field: str, content: bytes | None, said: str
) -> None:
    path: Path = getattr(files, field)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(TlsFileError) as error:
        files.read()
    assert said in str(error.value)
    assert error.value.field in ({field} if said != "not a usable pair" else {"cert_file"})
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("given", [{"cert_file": "c"}, {"key_file": "k"}])
def test_a_certificate_and_its_key_come_together(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="both"):
        Tls(**given)


class _Events:
    """What a watch has told."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def next(self) -> Any:
        return self.told.get(timeout=GUARD_SECONDS)

    def taken_over(self, *, ca: bytes | None = None, cert: bytes | None = None) -> Pems:
        """Wait for these contents; halves of a change may have been seen before it was whole."""
        while True:
            told = self.next()
            if isinstance(told, Pems) and (ca in {None, told.ca}) and (cert in {None, told.cert}):
                return told


def _watched(files: PemFiles) -> tuple[PemWatch, _Events]:
    events = _Events()
    return PemWatch(files, changed=events.told.put, refused=events.told.put, interval=FAST), events


def test_new_files_are_taken_over_however_they_come(files: PemFiles, tmp_path: Path) -> None:
    watch, events = _watched(files)
    first = watch.pems
    pair = CA.issue()
    pair.write(tmp_path, "own")
    assert events.taken_over(cert=pair.cert).key == pair.key
    assert watch.pems is not first
    # Written in place, not renamed.
    assert files.ca_file
    both = CA.pem + Authority().pem
    files.ca_file.write_bytes(both)
    assert events.taken_over(ca=both).cert == pair.cert
    watch.close()


def test_a_swapped_symlink_is_a_new_file(tmp_path: Path) -> None:
    # How Kubernetes replaces mounted secrets: the names stay, a folder's link changes.
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        CA.issue().write(tmp_path / name, "tls")
    data = tmp_path / "data"
    data.symlink_to("one")
    watch, events = _watched(PemFiles(None, data / "tls.pem", data / "tls.key"))
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(data)
    events.taken_over(cert=(tmp_path / "two" / "tls.pem").read_bytes())
    watch.close()


def test_a_bad_pair_is_told_and_the_old_one_stays(files: PemFiles, tmp_path: Path) -> None:
    watch, events = _watched(files)
    first = watch.pems
    good, other = CA.issue(), CA.issue()
    Pair(good.cert, other.key).write(tmp_path, "own")
    assert isinstance(events.next(), TlsFileError)
    assert watch.pems is first
    good.write(tmp_path, "own")
    assert events.taken_over(cert=good.cert).key == good.key
    watch.close()


def _watching() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "pem-files"}


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_the_thread_ends_with_its_watch(files: PemFiles, how: str) -> None:
    before = _watching()
    watch, _ = _watched(files)
    (thread,) = _watching() - before
    if how == "closed":
        watch.close()
    else:
        del watch
        gc.collect()
    thread.join(GUARD_SECONDS)
    assert not thread.is_alive()
