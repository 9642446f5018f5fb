"""A decision's id tells whose it is, without a memory of decisions."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.catalogue.decision_ids import new_id, require_own
from services.chassis.errors import NotFound, Reason
from services.router.proto import MAX_ID

tenants = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789._-"), min_size=1, max_size=64)


@given(tenants, tenants)
def test_an_id_is_its_own_tenants_only(owner: str, other: str) -> None:
    assume(owner != other)
    decision_id = new_id(owner)
    assert len(decision_id) <= MAX_ID
    require_own(owner, decision_id)
    with pytest.raises(NotFound) as hidden:
        require_own(other, decision_id)
    with pytest.raises(NotFound) as absent:
        require_own(other, "0" * len(decision_id))
    assert str(hidden.value) == str(absent.value)
    assert hidden.value.reason is absent.value.reason is Reason.DECISION_NOT_FOUND


@given(st.text(max_size=MAX_ID))
def test_no_text_is_a_defect(text: str) -> None:
    with pytest.raises(NotFound):
        require_own("tenant", text)


def test_ids_are_not_repeated() -> None:
    assert len({new_id("tenant") for _ in range(1_000)}) == 1_000
