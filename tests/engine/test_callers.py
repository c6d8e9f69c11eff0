"""Who comes with a token, and what that allows."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from routing.engine.bounds import cheapest_bound_nusd
from routing.engine.callers import ANONYMOUS, Caller
from routing.engine.catalog import ChainSpec, TenantSpec
from routing.engine.decide import alternatives, explain
from routing.engine.errors import ModelNotAllowed, NoCandidate, UnknownModel
from routing.engine.need import Need
from routing.engine.policy import Policy
from routing.policy import tokens
from tests.cast import (
    ACME,
    CODER,
    DIGEST_KEY,
    EMBED,
    PLAIN,
    SAGE,
    TINY,
    Fleet,
    document,
    key_for,
    priced,
)

TOKEN = "ao_acme_one"
JUST_TINY = frozenset({"tiny"})


def caller(tenant: TenantSpec = ACME, **key: Any) -> Caller | None:
    policy = Policy(document(tenants=(tenant,), keys=(key_for(TOKEN, **key),)))
    return policy.caller_by_digest.get(tokens.digest(TOKEN.encode(), DIGEST_KEY))


def tenant(**more: Any) -> TenantSpec:
    return TenantSpec(name="acme", **more)


def test_a_key_knows_its_tenant() -> None:
    limits = {"requests_per_minute": 5}
    found = caller(tenant(share=2.0, tokens_per_day=9), **limits)
    assert found is not None
    assert (found.tenant, found.key, found.share) == ("acme", "ci", 2.0)
    assert found.key_limits.requests_per_minute == 5
    assert found.tenant_limits.tokens_per_day == 9
    assert found.scope == b"acme\0ci"


@pytest.mark.parametrize(
    ("of_tenant", "of_key", "allowed"),
    [
        ((), (), None),
        (("tiny", "plain"), (), {"tiny", "plain"}),
        ((), ("tiny",), {"tiny"}),
        (("tiny", "plain"), ("plain", "sage"), {"plain"}),
        (("tiny",), ("sage",), set()),
        # A list of models that are gone allows none, and never all.
        (("gone",), (), {"gone"}),
        (("tiny:latest",), (), {"tiny"}),
    ],
)
def test_a_key_may_use_what_its_tenant_may(of_tenant: Any, of_key: Any, allowed: Any) -> None:
    found = caller(tenant(allowed_models=of_tenant), allowed_models=of_key)
    assert found is not None
    assert found.allowed == allowed


def test_what_is_disabled_or_orphaned_lets_nobody_in() -> None:
    assert caller(enabled=False) is None
    assert caller(tenant(enabled=False)) is None
    orphan = Policy(document(tenants=(ACME,), keys=(key_for(TOKEN, tenant="nobody"),)))
    assert orphan.caller_by_digest == {}


def test_its_end_is_known_before_it_comes() -> None:
    end = datetime(2026, 12, 1, tzinfo=UTC)
    found = caller(expires_at=end)
    assert found is not None
    assert found.expires_at_s == end.timestamp()
    assert ANONYMOUS.expires_at_s == float("inf")


def test_only_allowed_models_are_chosen() -> None:
    fleet = Fleet.of(document())
    assert fleet.decide().chosen.model_name != "tiny"
    decision = fleet.decide(allowed=JUST_TINY)
    assert [scored.candidate.model_name for scored in decision.ranked] == ["tiny"]
    assert alternatives(fleet.policy, decision) == []


def test_relaxing_the_floor_does_not_relax_the_list() -> None:
    decision = Fleet.of(document()).decide(allowed=JUST_TINY, floor=3)
    assert decision.chosen.model_name == "tiny"
    assert decision.relaxed == ("quality floor",)


def test_a_model_asked_for_by_name_must_be_allowed() -> None:
    chain = ChainSpec(name="c", models=("tiny",), for_model="sage")
    fleet = Fleet.of(document(chains=(chain,)))
    with pytest.raises(ModelNotAllowed, match="may not use the model 'sage'"):
        fleet.decide(model="sage", allowed=JUST_TINY)
    assert fleet.decide(model="tiny", allowed=JUST_TINY).chosen.model_name == "tiny"


def test_stand_ins_must_be_allowed_too() -> None:
    chain = ChainSpec(name="c", models=("sage", "plain"), for_model="tiny")
    fleet = Fleet.of(document(chains=(chain,)))
    fleet.trip("tiny@cloud")
    allowed = frozenset({"tiny", "plain"})
    assert fleet.decide(model="tiny", allowed=allowed).chosen.model_name == "plain"
    auto = fleet.decide(allowed=allowed)
    assert "sage" not in alternatives(fleet.policy, auto)


def test_hints_and_bounds_tell_nothing_of_other_models() -> None:
    dear, cheap = priced(SAGE, "1"), priced(PLAIN, "0.001")
    fleet = Fleet.of(document((dear, cheap)))
    with pytest.raises(UnknownModel) as caught:
        fleet.decide(model="plan", allowed=frozenset({"sage"}))
    assert caught.value.nearest is None
    need = Need(task="completion", max_tokens=1000, allowed=frozenset({"sage"}))
    assert cheapest_bound_nusd(fleet.policy, need) == 10**9


def test_nobody_left_says_why() -> None:
    fleet = Fleet.of(document((TINY, PLAIN)))
    with pytest.raises(NoCandidate) as caught:
        fleet.decide(allowed=frozenset())
    assert caught.value.only_because("not_allowed")
    need = Need(task="completion", allowed=JUST_TINY)
    rows = explain(fleet.policy, fleet.state, need, fleet.now)
    told = {row.candidate.model_name: row.rejection.reason for row in rows if row.rejection}
    assert told == {"plain": "not_allowed"}


def test_nobody_left_says_nothing_of_models_that_are_not_the_callers() -> None:
    fleet = Fleet.of(document((priced(SAGE, "1"), PLAIN, EMBED)))
    mine = frozenset({"sage", "embed"})
    with pytest.raises(NoCandidate) as caught:
        fleet.decide(allowed=mine, max_tokens=100, cost_limit_nusd=1)
    assert caught.value.only_because("cost_limit")
    # Of two reasons, that of the model that was named comes first.
    chain = ChainSpec(name="c", models=("coder", "plain"), for_model="sage")
    fleet = Fleet.of(document((SAGE, CODER, PLAIN), chains=(chain,)))
    fleet.trip("sage@cloud")
    fleet.trip("coder@cloud")
    with pytest.raises(NoCandidate) as caught:
        fleet.decide(model="sage", allowed=frozenset({"sage", "coder"}))
    assert [r.model for r in caught.value.rejections] == ["sage", "coder"]


def test_a_caller_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ANONYMOUS.tenant = "acme"  # type: ignore[misc]
    assert msgspec.structs.replace(ANONYMOUS, tenant="acme").tenant == "acme"
