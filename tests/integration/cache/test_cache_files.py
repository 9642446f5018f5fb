"""What operators do with files of entries, through the command line and real cache processes."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon_client import CacheClient
from antiphon_client.errors import InvalidArgumentError
from tests.integration.cache.cache_process import CacheProcess, until
from tests.integration.edgestore.store_process import StoreProcess
from tests.integration.tenants.methods import query

OK, FAILED, USAGE, DATA, UNAVAILABLE, CANNOT_WRITE, INTERRUPTED = 0, 1, 2, 65, 69, 73, 130
SECONDS = 100.0


def command(cache: CacheProcess, *words: str) -> tuple[list[str], dict[str, str]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    antiphon = str(Path(sys.executable).with_name("antiphon"))
    return [antiphon, "cache", *words], {**kept, "ANTIPHON_CACHE_TARGET": cache.address}


def antiphon(cache: CacheProcess, *words: str, given: bytes = b"") -> tuple[int, str, str]:
    """Run `antiphon cache`; return its exit code and what it says."""
    what, environ = command(cache, *words)
    done = subprocess.run(what, env=environ, input=given, capture_output=True, timeout=SECONDS, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def pairs(count: int, **fields: object) -> bytes:
    """A file for `warm`."""
    lines = [
        {"question": f"What is the number {n}?", "answer": f"It is {n}.", "ignored": n, **fields} for n in range(count)
    ]
    return "\n\n".join(map(json.dumps, lines)).encode()


def count(cache: CacheProcess, namespace: str = "") -> int:
    with CacheClient(cache.address) as client:
        return client.get_stats(pb.GetStatsRequest(namespace=namespace), timeout=SECONDS).entries_valid


def test_entries_go_through_a_file_and_come_back(start: Callable[..., CacheProcess], tmp_path: Path) -> None:
    cache, file = start().serving(), tmp_path / "entries.jsonl"
    assert antiphon(cache, "warm", "-", "--tag", "warm", "--namespace", "faq", given=pairs(20, ttl=500))[:2] == (
        OK,
        "stored 20 entries\n",
    )
    assert antiphon(cache, "export", str(file))[:2] == (OK, "exported 20 entries\n")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert list(lines[0]) == ["header"]
    assert lines[-1] == {"end": {"entries": "20"}}
    assert len(lines) == 22
    piped = antiphon(cache, "export", "-", "--namespace", "faq", "--tag", "warm")
    assert sorted(piped[1].splitlines()[1:-1]) == sorted(file.read_text().splitlines()[1:-1])

    assert antiphon(cache, "import", str(file))[:2] == (OK, "0 stored, 20 already there\n")
    assert antiphon(cache, "invalidate", "--namespace", "faq")[:2] == (OK, "invalidated 20 entries\n")
    assert count(cache) == 0
    again = antiphon(cache, "import", "-", "--tag", "restored", "--json", given=file.read_bytes())
    told = json.loads(again[1])
    assert (again[0], told["stored"], told["complete"], told["done"]) == (OK, 20, True, True)
    with CacheClient(cache.address) as client:
        found = client.list_entries(pb.ListEntriesRequest(tag="restored"), timeout=SECONDS).entries
        assert {entry.namespace for entry in found} == {"faq"}
        assert all(list(entry.tags) == ["warm", "restored"] for entry in found)
        asked = query("What is the number 7?")
        asked.namespace = "faq"
        assert client.lookup(pb.LookupRequest(query=asked), timeout=SECONDS).answer.text == "It is 7."


def test_a_wrong_line_is_named_and_costs_no_other(start: Callable[..., CacheProcess], tmp_path: Path) -> None:
    cache, file = start().serving(), tmp_path / "entries.jsonl"
    wrong = b'\n{"question": "Q"}\nnot JSON\n[1]\n{"question": "Q", "answer": "A", "ttl": -1}\n' + b"\xff\n"
    code, said, why = antiphon(cache, "warm", "-", given=pairs(3) + wrong)
    assert (code, said) == (DATA, "stored 3 entries, 5 not\n")
    assert [line.strip() for line in why.splitlines()] == [
        'line 6: has no "answer"',
        "line 7: is not JSON",
        'line 8: is not an object like {"question": "…", "answer": "…"}',
        'line 9: "ttl" is not a number of seconds',
        "line 10: is not JSON",
    ]
    assert antiphon(cache, "export", str(file))[0] == OK
    lines = file.read_bytes().splitlines()
    entry = json.loads(lines[1])
    del entry["model"]
    broken = b"\n".join([*lines[:2], b"{", json.dumps(entry).encode(), b'{"question": 7}', *lines[2:-1]])
    for strict, stored in (("--strict", 0), ("--dry-run", 0), ("--json", 3)):
        antiphon(cache, "invalidate", "--all")
        code, said, why = antiphon(cache, "import", "-", strict, given=broken)
        assert (code, count(cache)) == (DATA, stored)
        assert [line.strip() for line in why.splitlines()][:2] == ["line 3: is not JSON", "line 5: " + WRONG_TYPE]
        assert "line 4: model: is required" in why
        assert "no end of an export" in why
    assert json.loads(said)["refused"] == {"invalid": 3}


def test_a_file_that_was_cut_is_taken_as_far_as_it_goes(start: Callable[..., CacheProcess], tmp_path: Path) -> None:
    cache, file = start().serving(), tmp_path / "pairs.gz"
    whole = gzip.compress(pairs(200, note=random.Random(1).randbytes(2_000).hex()))
    file.write_bytes(whole)
    assert antiphon(cache, "warm", str(file), "--dry-run")[:2] == (OK, "would have stored 200 entries\n")
    file.write_bytes(whole[: len(whole) // 2])
    code, said, why = antiphon(cache, "warm", str(file), "--dry-run")
    assert (code, said) == (DATA, "")
    assert "FILE cannot be read: the gzip file ends too early" in why
    assert re.search(r"until then stored \d+ entries", why)


WRONG_TYPE = "Failed to parse question field: repeated field question must be in [] which is 7 at PortableEntry."


@pytest.mark.fault(50)
def test_an_export_that_breaks_off_leaves_the_file_as_it_was(
    start: Callable[..., CacheProcess], tmp_path: Path
) -> None:
    cache, file = start().serving(), tmp_path / "entries.jsonl"
    file.write_text("before")
    code, _, why = antiphon(cache, "export", str(file), "--namespace", "not allowed!")
    assert (code, file.read_text()) == (1, "before")
    assert "namespaces[0]" in why
    assert antiphon(cache, "export", str(tmp_path / "none" / "file"))[0] == CANNOT_WRITE
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.fault(50)
def test_an_import_command_that_is_killed_is_repeated(start: Callable[..., CacheProcess], tmp_path: Path) -> None:
    cache, file = start().serving(), tmp_path / "entries.jsonl"
    assert antiphon(cache, "warm", "-", given=pairs(30))[0] == OK
    assert antiphon(cache, "export", str(file), "--vectors")[0] == OK
    antiphon(cache, "invalidate", "--all")
    what, environ = command(cache, "import", "-")
    lines = file.read_bytes().splitlines(keepends=True)
    with subprocess.Popen(what, env=environ, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdin is not None
        # More than it sends in one call, and no end.
        running.stdin.write(b"".join(lines[:-1] + lines[1:-1] * 40))
        running.stdin.flush()
        until(lambda: count(cache) == 30, "nothing was imported")
        running.send_signal(signal.SIGKILL)
    assert antiphon(cache, "import", str(file))[:2] == (OK, "0 stored, 30 already there\n")
    why = antiphon(cache, "import", "-", given=pairs(1))[2]
    assert "line 1: is a question and its answer, for `antiphon cache warm`" in why
    assert count(cache) == 30


@pytest.mark.fault(50)
@pytest.mark.parametrize("ends", ["the server stops", "Ctrl-C"])
def test_an_import_that_breaks_off_tells_how_far_it_came(
    start: Callable[..., CacheProcess], tmp_path: Path, ends: str
) -> None:
    cache, file = start().serving(), tmp_path / "entries.jsonl"
    assert antiphon(cache, "warm", "-", given=pairs(30))[0] == OK
    assert antiphon(cache, "export", str(file), "--vectors")[0] == OK
    antiphon(cache, "invalidate", "--all")
    lines = file.read_bytes().splitlines(keepends=True)
    what, environ = command(cache, "import", "-")
    pipe = subprocess.PIPE
    with subprocess.Popen(what, env=environ, stdin=pipe, stdout=pipe, stderr=pipe) as running:
        assert running.stdin is not None
        many = lines[1:-1] * 40
        running.stdin.write(b"".join(lines[:1] + many))
        running.stdin.flush()
        until(lambda: count(cache) == 30, "nothing was imported")
        address = cache.address
        if ends == "Ctrl-C":
            running.stdin.write(b"".join(many))
            running.stdin.flush()
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=SECONDS)
            assert running.returncode == INTERRUPTED
        else:
            cache.end()  # it answers what it has been asked
            _, said = running.communicate(b"".join(many), timeout=SECONDS)
            assert running.returncode == UNAVAILABLE
            assert f"the connection to {address} was lost" in said.decode()
    assert re.search(r"until then 30 stored, [\d,]+ already there; repeat the command to go on", said.decode())


@pytest.mark.fault(46)
def test_warming_stops_at_what_keeps_all_from_being_stored(
    start: Callable[..., CacheProcess], store: StoreProcess
) -> None:
    cache = start().serving()
    store.kill()
    code, said, why = antiphon(cache, "warm", "-", given=pairs(100))
    assert (code, said) == (FAILED, "")
    assert len(why.splitlines()) == 2
    assert "STORE_UNAVAILABLE" in why
    store.start()
    until(lambda: antiphon(cache, "invalidate", "--all")[0] == OK, "the store did not come back")


def test_what_is_out_of_date_is_invalidated(start: Callable[..., CacheProcess]) -> None:
    cache = start().serving()
    for namespace, version in (("a", "v1"), ("a", "v2"), ("b", "v1")):
        given = json.dumps({"question": f"Of {version}?", "answer": "!", "sources": {"docs": version}}).encode()
        assert antiphon(cache, "warm", "-", "--namespace", namespace, "--tag", namespace, given=given)[0] == OK
    both = antiphon(cache, "invalidate", "--source-version", "docs=v1", "--dry-run")
    assert both[:2] == (OK, "would invalidate 2 entries\n")
    assert antiphon(cache, "invalidate", "--source-version", "docs", "--dry-run", "--json")[1] == (
        '{"invalidated": 3, "dry_run": true}\n'
    )
    assert antiphon(cache, "invalidate", "--source-version", "docs=v1", "--namespace", "b")[1] == (
        "invalidated 1 entry\n"
    )
    assert antiphon(cache, "invalidate", "--tag", "a", "--dry-run")[1] == "would invalidate 2 entries\n"
    assert count(cache) == 2
    with CacheClient(cache.address) as client:
        first, _ = client.list_entries(pb.ListEntriesRequest(), timeout=SECONDS).entries
    elsewhere = antiphon(cache, "invalidate", "--entry", first.entry_id, "--namespace", "b")
    assert elsewhere[:2] == (FAILED, "")
    assert elsewhere[2].startswith("error: an entry does not exist (ENTRY_NOT_FOUND)\n  it may have run out")
    assert antiphon(cache, "invalidate", "--entry", first.entry_id)[1] == "invalidated 1 entry\n"
    assert antiphon(cache, "invalidate", "--all", "--dry-run")[1] == "would invalidate 1 entry\n"
    assert antiphon(cache, "invalidate", "--all")[1] == "invalidated 1 entry\n"
    assert count(cache) == 0
    for words in ((), ("--all", "--tag", "x"), ("--entry", "x", "--tag", "x"), ("--all", "--namespace", "x")):
        assert antiphon(cache, "invalidate", *words)[0] == USAGE


def test_a_report_shows_what_the_cache_did(start: Callable[..., CacheProcess], tmp_path: Path) -> None:
    cache, file = start().serving(), tmp_path / "report.html"
    asked = {"question": "How do I <b>reset</b> my password?", "answer": "Click."}
    assert antiphon(cache, "warm", "-", given=json.dumps(asked).encode())[0] == OK
    with CacheClient(cache.address) as client:
        only = pb.CachePolicy(mode=pb.CACHE_MODE_ONLY_IF_CACHED)
        for text in (asked["question"], asked["question"], "Something else?"):
            client.lookup(pb.LookupRequest(query=query(text), policy=only), timeout=SECONDS)
        (hour,) = client.get_stats(pb.GetStatsRequest(), timeout=SECONDS).hours
        assert (hour.hits, hour.misses + hour.bypasses) == (2, 1)
        (first,) = client.list_entries(pb.ListEntriesRequest(most_served=True), timeout=SECONDS).entries
        assert (first.prompt, first.hits) == (asked["question"], 2)
        with pytest.raises(InvalidArgumentError, match="page_token"):
            client.list_entries(pb.ListEntriesRequest(most_served=True, page_token="YXxi"), timeout=SECONDS)
    assert antiphon(cache, "report", str(file))[:2] == (OK, f"wrote {file}\n")
    page = file.read_text()
    assert "How do I &lt;b&gt;reset&lt;/b&gt; my password?" in page
    assert "<b>reset" not in page
    assert "Share of hits, by hour" in page
    assert antiphon(cache, "report", "-", "--namespace", "none", "--top", "0")[1].endswith("</html>\n")
