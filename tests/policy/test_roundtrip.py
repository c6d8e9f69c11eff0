"""Whatever a policy may hold survives the file and the snapshot; no text crashes the reader."""

from datetime import UTC, datetime

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.engine.catalog import (
    BUDGET_PERIODS,
    COMMITS,
    PRIORITIES,
    QUALITY_TIERS,
    SPEEDS,
    TASK_TYPES,
    BudgetSpec,
    ChainSpec,
    EndpointSpec,
    HostCostSpec,
    KeySpec,
    ModelSpec,
    OfferingSpec,
    PolicyDocument,
    PriceSpec,
    ProfileSpec,
    SavingsSpec,
    TenantSpec,
)
from routing.policy import snapshot
from routing.policy.file import to_yaml
from routing.policy.parsing import Parsed
from routing.policy.planning import Plan
from routing.policy.reading import Reading, Unreadable
from routing.policy.tables import KINDS, SINGLE, objects

names = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20).filter(
    lambda name: name != "auto" and not name.startswith("auto:")
)
slugs = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
prices = st.none() | st.decimals(0, 1000, places=9, allow_nan=False)
weights = st.floats(0, 100)
tiers = st.sampled_from(QUALITY_TIERS)

models = st.builds(
    ModelSpec,
    name=names,
    capabilities=st.lists(st.sampled_from(TASK_TYPES), min_size=1, unique=True).map(tuple),
    quality_tier=tiers,
    speed=st.sampled_from(SPEEDS),
    ram_required_gb=st.floats(0, 1e5),
    kv_mb_per_1k_tokens=st.floats(0, 1e6),
    accepts_prefill=st.booleans(),
    context_length=st.integers(1, 10**8),
    cost_per_1k_input_usd=prices,
    cost_per_1k_output_usd=prices,
    best_for=st.lists(names, max_size=3).map(tuple),
    enabled=st.booleans(),
)
endpoints = st.builds(
    EndpointSpec,
    name=slugs,
    provider=st.sampled_from(["ollama", "openai"]),
    base_url=slugs.map(lambda host: f"http://{host}"),
    api_key_ref=st.sampled_from(["", "env:KEY", "file:/run/key"]),
    host=st.just("") | slugs,
    region=st.just("") | slugs,
    max_concurrency=st.none() | st.integers(1, 10_000),
    max_queue=st.integers(0, 100_000),
    min_residency_s=st.floats(0, 86_400),
    enabled=st.booleans(),
    simulated=st.booleans(),
)
offerings = st.builds(
    OfferingSpec,
    model=names,
    endpoint=slugs,
    upstream_model=st.just("") | names,
    num_ctx=st.none() | st.integers(1, 10**6),
    keep_alive=st.sampled_from(["", "5m", "-1", "300", "1h30m"]),
    enabled=st.booleans(),
)
chains = st.builds(
    ChainSpec,
    name=names,
    models=st.lists(names, min_size=1, max_size=3).map(tuple),
    for_model=st.just("") | names,
    for_task=st.none() | st.sampled_from(TASK_TYPES),
    enabled=st.booleans(),
)
profiles = st.builds(
    ProfileSpec,
    priority=st.sampled_from(PRIORITIES),
    quality_weight=weights,
    cost_weight=weights,
    latency_weight=weights,
    memory_weight=weights,
    success_weight=weights,
    floor_simple=tiers,
    deadline_ms=st.integers(100, 3_600_000),
    max_wait_ms=st.integers(0, 3_600_000),
    commit=st.sampled_from(COMMITS),
    hedge_percent=st.floats(0, 100),
)
limits = {
    name: st.none() | st.integers(1, 10**12)
    for name in ("requests_per_minute", "tokens_per_day", "concurrent_streams")
}
some_names = st.lists(names, max_size=3, unique=True).map(tuple)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
amounts = st.decimals(0, 10**9, places=9, allow_nan=False)
known_prices = st.decimals(0, 1000, places=9, allow_nan=False)
tenants = st.builds(
    TenantSpec,
    name=slugs,
    allowed_models=some_names,
    share=st.floats(0.001, 1000),
    enabled=st.booleans(),
    **limits,
)
api_keys = st.builds(
    KeySpec,
    name=slugs,
    tenant=slugs,
    prefix=slugs.map(lambda slug: f"ao_{slug}"),
    digest=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    allowed_models=some_names,
    expires_at=st.none() | moments,
    enabled=st.booleans(),
    **limits,
)
dated_prices = st.builds(
    PriceSpec,
    model=names,
    valid_from=moments,
    input_per_1k_usd=known_prices,
    output_per_1k_usd=known_prices,
    cached_input_per_1k_usd=prices,
    embedding_per_1k_usd=prices,
    per_request_usd=known_prices,
)
host_costs = st.builds(
    HostCostSpec,
    host=slugs,
    watts=st.floats(0, 1e6),
    energy_per_kwh_usd=amounts,
    hardware_usd=amounts,
    lifetime_h=st.floats(1, 1e6),
)
subjects = st.one_of(
    st.just(("all", "")),
    st.tuples(st.sampled_from(["tenant", "key", "model", "tag"]), names),
    st.tuples(st.just("task"), st.sampled_from(TASK_TYPES)),
)
budgets = st.builds(
    lambda subject, **fields: BudgetSpec(scope=subject[0], subject=subject[1], **fields),
    subject=subjects,
    name=names,
    period=st.sampled_from(BUDGET_PERIODS),
    time_zone=st.sampled_from(["UTC", "Europe/Zurich", "America/New_York"]),
    limit_usd=amounts,
    hard=st.booleans(),
    thresholds=st.lists(st.integers(1, 1000), max_size=4, unique=True).map(sorted).map(tuple),
    when_exhausted=st.sampled_from(["refuse", "prefer_free"]),
    enabled=st.booleans(),
)
documents = st.builds(
    PolicyDocument,
    models=st.lists(models, max_size=3).map(tuple),
    endpoints=st.lists(endpoints, max_size=3).map(tuple),
    offerings=st.lists(offerings, max_size=3).map(tuple),
    chains=st.lists(chains, max_size=3).map(tuple),
    profiles=st.lists(profiles, max_size=3).map(tuple),
    tenants=st.lists(tenants, max_size=2).map(tuple),
    keys=st.lists(api_keys, max_size=2).map(tuple),
    prices=st.lists(dated_prices, max_size=2).map(tuple),
    host_costs=st.lists(host_costs, max_size=2).map(tuple),
    budgets=st.lists(budgets, max_size=2).map(tuple),
    savings=st.builds(SavingsSpec, baseline=st.just("") | names),
)


@settings(deadline=None)
@given(documents)
def test_a_file_reads_back_as_what_was_written(document: PolicyDocument) -> None:
    reading = Reading(to_yaml(document))
    parsed = Parsed(reading.data)
    assert (reading.repeated, parsed.problems) == ([], [])
    for kind in KINDS:
        specs = tuple(item.spec for item in parsed.items.get(kind, []))
        assert specs == objects(document, kind) or (kind in SINGLE and not specs)


@settings(deadline=None)
@given(documents)
def test_a_snapshot_reads_back_as_what_was_written(document: PolicyDocument) -> None:
    stored = msgspec.structs.replace(document, version=7)
    assert snapshot.decode(snapshot.encode(stored)) == stored


@settings(deadline=None)
@given(st.text(st.sampled_from("abm:-[]{}&*!|>'\"#,?%@ \n\t01.~ü") | st.characters(), max_size=80))
def test_no_text_crashes_the_reader(text: str) -> None:
    try:
        reading = Reading(text)
    except Unreadable:
        return
    assert Plan(Parsed(reading.data), PolicyDocument()).after is not None


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
fields = st.sampled_from([name for spec in KINDS.values() for name in spec.__struct_fields__])
broken = st.dictionaries(
    st.sampled_from([*KINDS, "prune", "version", "other"]),
    json | st.lists(st.dictionaries(fields, json | names | prices, max_size=6), max_size=3),
)


@settings(deadline=None)
@given(broken)
def test_no_data_crashes_the_rules(data: dict[str, object]) -> None:
    plan = Plan(Parsed(data), PolicyDocument())
    for problem in (*plan.errors, *plan.warnings):
        assert problem.message.endswith((".", "?"))
