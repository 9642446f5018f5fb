"""Who may call what: keys, the credentials file, the verifier, the table, and whom services act for."""

from __future__ import annotations

import json
import re
import string
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.router.v1 import router_pb2
from services.chassis.auth.access import KEY_ID_HEADER, TENANT_HEADER, Access
from services.chassis.auth.api_key import ID, digest, key_id_of, new_key
from services.chassis.auth.credentials import Credentials, CredentialsError, StoredKey, parse, serialise
from services.chassis.auth.table import OPEN_SERVICES, TABLE
from services.chassis.auth.values import ANYONE, Caller, Role
from services.chassis.auth.verifier import ApiKeys
from services.chassis.errors import AntiphonError, Exhausted, PermissionDenied, Reason, Unauthenticated
from tests.fakes.credentials import HMAC_KEY, bearer, credentials, stored

KEY = new_key()
OTHER = new_key()
METHOD = "antiphon.completion.v1.CompletionService/Complete"
CACHE_METHOD = "antiphon.cache.v1.CacheService/Lookup"

tenants = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=64)
moments = st.datetimes(timezones=st.just(UTC))
limits = st.none() | st.integers(1, 10**9)
ids = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=12, max_size=12)
keys = st.builds(
    StoredKey,
    id=ids,
    tenant=tenants,
    role=st.sampled_from(Role),
    hmac_sha256=st.binary(min_size=32, max_size=32),
    created_at=moments,
    expires_at=st.none() | moments,
    revoked_at=st.none() | moments,
    requests_per_minute=limits,
    tokens_per_minute=limits,
    note=st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=200),
)


def refusal(call: Any, *arguments: Any) -> AntiphonError:
    with pytest.raises(AntiphonError) as raised:
        call(*arguments)
    return raised.value


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_new_each_time_and_names_its_id() -> None:
    made = [new_key() for _ in range(50)]
    assert len({key.id for key in made} | {key.text for key in made}) == 100
    for key in made:
        assert key_id_of(key.text) == key.id
        assert ID.fullmatch(key.id)
        assert re.fullmatch(r"ap_[a-z2-7]{12}_[A-Za-z0-9_-]{43}", key.text)
        assert key.text not in repr(key)


@given(st.text())
def test_any_text_is_a_key_or_is_not(text: str) -> None:
    assert key_id_of(text) is None or text.startswith("ap_")


# --- the file ---------------------------------------------------------------------------------------------------------


@given(st.lists(keys, max_size=5, unique_by=lambda key: key.id), st.binary(min_size=32, max_size=32))
def test_a_written_file_reads_the_same(stored_keys: list[StoredKey], hmac_key: bytes) -> None:
    written = Credentials(hmac_key=hmac_key, keys=tuple(stored_keys))
    assert parse(serialise(written)) == written


def content(**changes: Any) -> dict[str, Any]:
    """A good file with some fields of its only key changed."""
    whole: dict[str, Any] = json.loads(serialise(credentials(stored(KEY))))
    whole["keys"][0] |= changes
    return whole


SECRET = "do-not-quote-me"


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        (content(id=SECRET), "keys[0].id"),
        (content(tenant=SECRET.upper()), "keys[0].tenant"),
        (content(tenant="a" * 65), "keys[0].tenant"),
        (content(tenant=""), "keys[0].tenant"),
        (content(role=SECRET), "keys[0].role"),
        (content(hmac_sha256=SECRET), "keys[0].hmac_sha256"),
        (content(hmac_sha256="00" * 31), "keys[0].hmac_sha256"),
        (content(created_at=SECRET), "keys[0].created_at"),
        (content(expires_at="2026-01-01T00:00:00"), "keys[0].expires_at"),
        (content(revoked_at=True), "keys[0].revoked_at"),
        (content(requests_per_minute=0), "keys[0].requests_per_minute"),
        (content(requests_per_minute=True), "keys[0].requests_per_minute"),
        (content(tokens_per_minute=1.5), "keys[0].tokens_per_minute"),
        (content(note="n" * 201), "keys[0].note"),
        (content(note="\x1b[2J"), "keys[0].note"),
        (content(**{SECRET: 1}), "keys[0] has a field"),
        ({**content(), "version": 2}, "version"),
        ({**content(), SECRET: 1}, "the file has a field"),
        ({**content(), "hmac_key": SECRET}, "hmac_key"),
        ({**content(), "hmac_key": None}, "hmac_key"),
        ({"version": 1, "keys": []}, "hmac_key"),
        ({**content(), "keys": content()["keys"] * 2}, "same id"),
        ([SECRET], "the file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_file_names_the_place_and_quotes_nothing(changed: Any, place: str) -> None:
    with pytest.raises(CredentialsError) as raised:
        parse(json.dumps(changed).encode())
    assert place in str(raised.value)
    assert SECRET not in str(raised.value).lower()


@given(st.binary(max_size=300))
def test_any_bytes_are_credentials_or_an_error(raw: bytes) -> None:
    with pytest.raises(CredentialsError):
        parse(raw)


def test_a_deeply_nested_file_is_an_error() -> None:
    with pytest.raises(CredentialsError):
        parse(b"[" * 100_000)


# --- the verifier -----------------------------------------------------------------------------------------------------


def test_a_key_proves_tenant_id_role_and_limits() -> None:
    verifier = ApiKeys(credentials(stored(KEY, requests_per_minute=5, tokens_per_minute=7), stored(OTHER, "operator")))
    identity = verifier.verify([("user-agent", "x"), *bearer(KEY)])
    assert identity.caller == Caller("acme", KEY.id, Role.CLIENT)
    assert (identity.requests_per_minute, identity.tokens_per_minute) == (5, 7)
    assert verifier.verify(bearer(OTHER)).caller.role is Role.OPERATOR
    assert verifier.verify([("authorization", f"bEARER {KEY.text}")]) == identity


SECRETLESS = f"ap_{KEY.id}_"


@pytest.mark.fault(14)
@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], Reason.MISSING_CREDENTIAL),
        ([("authorization-bin", KEY.text.encode())], Reason.MISSING_CREDENTIAL),
        ([("authorization", b"\x00\xff")], Reason.INVALID_CREDENTIAL),
        ([("authorization", "")], Reason.INVALID_CREDENTIAL),
        ([("authorization", "Bearer")], Reason.INVALID_CREDENTIAL),
        ([("authorization", "Bearer ")], Reason.INVALID_CREDENTIAL),
        ([("authorization", KEY.text)], Reason.INVALID_CREDENTIAL),
        ([("authorization", f"Basic {KEY.text}")], Reason.INVALID_CREDENTIAL),
        ([("authorization", f"Bearer  {KEY.text}")], Reason.INVALID_CREDENTIAL),
        ([("authorization", f"Bearer {KEY.text} ")], Reason.INVALID_CREDENTIAL),
        ([("authorization", f"Bearer {KEY.text}\n")], Reason.INVALID_CREDENTIAL),
        ([*bearer(KEY), *bearer(KEY)], Reason.INVALID_CREDENTIAL),
        (bearer(OTHER), Reason.INVALID_CREDENTIAL),
        (bearer(SECRETLESS + OTHER.text[-43:]), Reason.INVALID_CREDENTIAL),
        (bearer(KEY.text[:-1]), Reason.INVALID_CREDENTIAL),
        (bearer(KEY.text + "A"), Reason.INVALID_CREDENTIAL),
        (bearer("ключ"), Reason.INVALID_CREDENTIAL),
        (bearer(SECRETLESS + "é" * 43), Reason.INVALID_CREDENTIAL),
        (bearer("A" * 15_000), Reason.INVALID_CREDENTIAL),
    ],
)
def test_whoever_proves_nothing_is_refused(metadata: Any, reason: Reason) -> None:
    error = refusal(ApiKeys(credentials(stored(KEY))).verify, metadata)
    assert isinstance(error, Unauthenticated)
    assert error.reason is reason
    assert KEY.text[16:] not in error.message
    assert OTHER.text[16:] not in error.message


@given(st.lists(st.tuples(st.sampled_from(["authorization", "x", "te"]), st.text() | st.binary()), max_size=4))
def test_any_metadata_is_refused_without_being_quoted(metadata: list[tuple[str, str | bytes]]) -> None:
    with pytest.raises(Unauthenticated):
        ApiKeys(credentials(stored(KEY))).verify(metadata)


@given(st.data())
def test_a_key_with_one_character_changed_is_another_key(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(KEY.text) - 1))
    character = data.draw(st.characters(exclude_characters=KEY.text[place]))
    with pytest.raises(Unauthenticated):
        ApiKeys(credentials(stored(KEY))).verify(bearer(KEY.text[:place] + character + KEY.text[place + 1 :]))


@pytest.mark.fault(14)
def test_a_key_expires_by_the_calendar_and_is_revoked_for_good() -> None:
    end = datetime(2026, 6, 1, tzinfo=UTC)
    now = end.timestamp() - 0.001
    verifier = ApiKeys(credentials(stored(KEY, expires_at=end)), now=lambda: now)
    assert verifier.verify(bearer(KEY)).caller.key_id == KEY.id
    now = end.timestamp()
    assert refusal(verifier.verify, bearer(KEY)).reason is Reason.EXPIRED_CREDENTIAL
    # Only the holder learns that a key has expired.
    assert refusal(verifier.verify, bearer(SECRETLESS + OTHER.text[-43:])).reason is Reason.INVALID_CREDENTIAL
    later = end + timedelta(days=1)
    revoked = ApiKeys(credentials(stored(KEY, revoked_at=later)), now=lambda: now)
    assert refusal(revoked.verify, bearer(KEY)).reason is Reason.INVALID_CREDENTIAL


@given(ids, st.text(string.ascii_letters + string.digits + "-_", min_size=43, max_size=43), st.binary(min_size=32))
def test_the_digest_covers_id_secret_and_hmac_key(key_id: str, secret: str, hmac_key: bytes) -> None:
    assume(hmac_key[:32] != HMAC_KEY)
    text = f"ap_{key_id}_{secret}"
    assert key_id_of(text) == key_id
    other_id = "a" * 12 if key_id != "a" * 12 else "b" * 12
    assert len({digest(HMAC_KEY, text), digest(HMAC_KEY, f"ap_{other_id}_{secret}"), digest(hmac_key[:32], text)}) == 3


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_holds_exactly_the_methods_that_are_served() -> None:
    services = [
        *cache_pb2.DESCRIPTOR.services_by_name.values(),
        *completion_pb2.DESCRIPTOR.services_by_name.values(),
        *router_pb2.DESCRIPTOR.services_by_name.values(),
    ]
    assert set(TABLE) == {f"{service.full_name}/{method.name}" for service in services for method in service.methods}
    assert all(TABLE.values())
    assert not {name.partition("/")[0] for name in TABLE} & OPEN_SERVICES


def test_a_method_without_a_row_cannot_be_served() -> None:
    with pytest.raises(TypeError, match="New/Thing is not in the table"):
        Access().method("antiphon.New/Thing")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("method", TABLE)
def test_only_the_roles_of_a_method_may_call_it(method: str, role: Role) -> None:
    access = Access()
    access.use(ApiKeys(credentials(stored(KEY, role))), keys=[KEY.id])
    if role in TABLE[method]:
        assert access.method(method)(bearer(KEY)) == Caller("acme", KEY.id, role)
    else:
        error = refusal(access.method(method), bearer(KEY))
        assert isinstance(error, PermissionDenied)
        assert error.reason is Reason.METHOD_NOT_ALLOWED
    assert isinstance(refusal(access.method(method), ()), Unauthenticated)


def test_without_credentials_anyone_may_call_anything() -> None:
    for method in TABLE:
        assert Access().method(method)(()) == ANYONE
        assert Access().method(method)(bearer("whatever")) == ANYONE


# --- whom services act for --------------------------------------------------------------------------------------------


def acting(role: Role | None, *metadata: tuple[str, str | bytes]) -> Caller:
    """For whom a call of this role with this metadata is made."""
    access = Access()
    if role is None:
        return access.method(CACHE_METHOD)(metadata)
    access.use(ApiKeys(credentials(stored(KEY, role, tenant="own"))), keys=[KEY.id])
    return access.method(CACHE_METHOD)((*bearer(KEY), *metadata))


def test_a_service_acts_for_whom_it_names_or_for_its_own_tenant() -> None:
    assert acting(Role.SERVICE) == Caller("own", KEY.id, Role.SERVICE)
    assert acting(Role.SERVICE, (TENANT_HEADER, "acme")) == Caller("acme", "", Role.SERVICE)
    named = acting(Role.SERVICE, (KEY_ID_HEADER, OTHER.id), (TENANT_HEADER, "a.b_c-9"))
    assert named == Caller("a.b_c-9", OTHER.id, Role.SERVICE)


@pytest.mark.parametrize("role", [Role.OPERATOR, None])
@pytest.mark.parametrize("header", [TENANT_HEADER, KEY_ID_HEADER])
@pytest.mark.parametrize("value", ["own", "default", "", KEY.id], ids=["own", "default", "empty", "the key"])
def test_nobody_else_may_name_a_tenant(role: Role | None, header: str, value: str) -> None:
    with pytest.raises(PermissionDenied) as raised:
        acting(role, (header, value))
    assert raised.value.reason is Reason.TENANT_NOT_ALLOWED


@pytest.mark.parametrize(
    "metadata",
    [
        [(TENANT_HEADER, "")],
        [(TENANT_HEADER, "Acme")],
        [(TENANT_HEADER, "acme\n")],
        [(TENANT_HEADER, "a" * 65)],
        [(TENANT_HEADER, b"acme")],
        [(TENANT_HEADER, "acme"), (TENANT_HEADER, "acme")],
        [(KEY_ID_HEADER, KEY.id)],
        [(TENANT_HEADER, "acme"), (KEY_ID_HEADER, "")],
        [(TENANT_HEADER, "acme"), (KEY_ID_HEADER, "a b")],
        [(TENANT_HEADER, "acme"), (KEY_ID_HEADER, KEY.id), (KEY_ID_HEADER, OTHER.id)],
    ],
)
def test_a_service_must_name_a_tenant_properly(metadata: list[tuple[str, str | bytes]]) -> None:
    with pytest.raises(PermissionDenied) as raised:
        acting(Role.SERVICE, *metadata)
    assert raised.value.reason is Reason.TENANT_NOT_ALLOWED


# --- limits -----------------------------------------------------------------------------------------------------------


def limited(clock: list[float], role: Role = Role.CLIENT, **fields: Any) -> Access:
    access = Access({METHOD: frozenset(Role)}, monotonic=lambda: clock[0])
    access.use(ApiKeys(credentials(stored(KEY, role, **fields), stored(OTHER, **fields))), keys=[KEY.id, OTHER.id])
    return access


def test_requests_are_limited_per_key_and_come_back_with_time() -> None:
    clock = [100.0]
    admit = limited(clock, requests_per_minute=2).method(METHOD)
    admit(bearer(KEY))
    admit(bearer(KEY))
    error = refusal(admit, bearer(KEY))
    assert isinstance(error, Exhausted)
    assert error.reason is Reason.RATE_LIMITED
    assert error.retry_after == pytest.approx(30.0, abs=0.01)
    admit(bearer(OTHER))
    clock[0] += error.retry_after
    admit(bearer(KEY))
    assert isinstance(refusal(admit, bearer(KEY)), Exhausted)


def test_a_refused_tenant_header_costs_no_request() -> None:
    admit = limited([0.0], requests_per_minute=1).method(METHOD)
    assert isinstance(refusal(admit, (*bearer(KEY), (TENANT_HEADER, "acme"))), PermissionDenied)
    admit(bearer(KEY))


def test_tokens_are_charged_afterwards_and_refuse_metered_methods_only() -> None:
    clock = [0.0]
    access = limited(clock, tokens_per_minute=60)
    metered, plain = access.method(METHOD, metered=True), access.method(METHOD)
    metered(bearer(KEY))
    access.charge(KEY.id, 90)
    access.charge("nobody", 90)
    error = refusal(metered, bearer(KEY))
    assert isinstance(error, Exhausted)
    assert error.retry_after == pytest.approx(31.0, abs=0.01)
    plain(bearer(KEY))
    metered(bearer(OTHER))
    clock[0] += error.retry_after
    metered(bearer(KEY))


def test_services_are_not_limited() -> None:
    access = limited([0.0], Role.SERVICE, requests_per_minute=1, tokens_per_minute=1)
    for _ in range(3):
        access.method(METHOD, metered=True)(bearer(KEY))
        access.charge(KEY.id, 100)


def test_new_keys_leave_what_was_used_and_forget_whom_they_leave_out() -> None:
    clock = [0.0]
    access = limited(clock, requests_per_minute=2)
    admit = access.method(METHOD)
    admit(bearer(KEY))
    admit(bearer(KEY))
    access.use(ApiKeys(credentials(stored(KEY, requests_per_minute=3))), keys=[KEY.id])
    admit(bearer(KEY))
    assert isinstance(refusal(admit, bearer(KEY)), Exhausted)
    access.use(ApiKeys(credentials(stored(KEY))), keys=[KEY.id])
    admit(bearer(KEY))
    access.use(ApiKeys(credentials()), keys=[])
    access.use(ApiKeys(credentials(stored(KEY, requests_per_minute=1))), keys=[KEY.id])
    admit(bearer(KEY))
