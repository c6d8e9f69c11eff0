"""What an admin can say: models, endpoints, chains, profiles, who spends and how much, as plain
values.

One set of types serves four places: the policy file is these types as YAML, the ORM exports and
imports them, the compiled snapshot in Redis is them as MessagePack, and `Policy.compile` indexes
them for deciding. Unknown fields are refused wherever they are decoded.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec

TaskType = Literal["completion", "reasoning", "code", "embedding", "analysis"]
Complexity = Literal["simple", "moderate", "complex"]
Priority = Literal["low", "normal", "high", "critical"]
QualityTier = Literal["basic", "good", "high", "exceptional"]
Speed = Literal["fast", "medium", "slow"]
ProviderKind = Literal["ollama", "openai"]
Commit = Literal["first_token", "complete"]
BudgetScope = Literal["all", "tenant", "key", "task", "model", "tag"]
BudgetPeriod = Literal["hour", "day", "week", "month", "total"]
WhenExhausted = Literal["refuse", "prefer_free", "warn"]

TASK_TYPES: tuple[TaskType, ...] = ("completion", "reasoning", "code", "embedding", "analysis")
COMPLEXITIES: tuple[Complexity, ...] = ("simple", "moderate", "complex")
PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high", "critical")
QUALITY_TIERS: tuple[QualityTier, ...] = ("basic", "good", "high", "exceptional")
SPEEDS: tuple[Speed, ...] = ("fast", "medium", "slow")
COMMITS: tuple[Commit, ...] = ("first_token", "complete")
PROVIDERS: tuple[ProviderKind, ...] = ("ollama", "openai")
BUDGET_SCOPES: tuple[BudgetScope, ...] = ("all", "tenant", "key", "task", "model", "tag")
BUDGET_PERIODS: tuple[BudgetPeriod, ...] = ("hour", "day", "week", "month", "total")
WHEN_EXHAUSTED: tuple[WhenExhausted, ...] = ("refuse", "prefer_free", "warn")
# What a request says its work is for, and a budget of the scope `tag` names. Spreadsheets take what
# begins with one of the four for a formula; `$` lets a last line end pass.
TAG_PATTERN = r"^(?![=+@-])[ -~]+$(?!\n)"
TAG_FORM = "printable ASCII, the first character none of = + - @"
LONGEST_TAG = 100
TIER_RANK: dict[str, int] = {tier: rank for rank, tier in enumerate(QUALITY_TIERS)}

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
# msgspec bounds no Decimal; `routing.policy.rules.price` does.
Usd = Decimal
Weight = Annotated[float, msgspec.Meta(ge=0, le=100)]


class _Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value of the policy; equal when all of its fields are."""


class ModelSpec(_Spec, frozen=True, kw_only=True):
    """A capability record: what a model can do, what it needs and what it costs."""

    name: Name
    capabilities: tuple[TaskType, ...]
    quality_tier: QualityTier
    speed: Speed = "medium"
    # With the context of 4,096 tokens that Ollama loads by itself.
    ram_required_gb: Annotated[float, msgspec.Meta(ge=0, le=100_000)] = 0.0
    # What 1,000 tokens of context more, or less, add to that.
    kv_mb_per_1k_tokens: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 0.0
    context_length: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] = 4096
    # None: the price is not known. Never treated as free where money is limited.
    cost_per_1k_input_usd: Usd | None = None
    cost_per_1k_output_usd: Usd | None = None
    best_for: tuple[str, ...] = ()
    # Does it go on from an answer that was begun for it?
    accepts_prefill: bool = False
    enabled: bool = True


class EndpointSpec(_Spec, frozen=True, kw_only=True):
    """A server that answers for models: an Ollama or an OpenAI-compatible base URL."""

    name: Name
    provider: ProviderKind
    base_url: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    # `env:NAME` or `file:PATH`; the secret itself is never part of the policy.
    api_key_ref: str = ""
    # The machine whose memory its models use: `local` is this one, empty is not ours to watch.
    host: str = ""
    region: str = ""
    # Most calls at once, over all workers and nodes; None: found out by what it bears.
    max_concurrency: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    # Most requests that may wait for it in one worker.
    max_queue: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 4096
    # A model loaded more recently than this is not displaced by another one.
    min_residency_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 10.0
    enabled: bool = True
    simulated: bool = False


class OfferingSpec(_Spec, frozen=True, kw_only=True):
    """This model at this endpoint, under the name the endpoint knows it by."""

    model: Name
    endpoint: Name
    # Empty: the endpoint uses the model's own name.
    upstream_model: str = ""
    # Load options, pinned so that routing itself never causes a reload.
    num_ctx: Annotated[int, msgspec.Meta(ge=1)] | None = None
    keep_alive: str = ""
    enabled: bool = True


class ChainSpec(_Spec, frozen=True, kw_only=True):
    """Who stands in, in order, when the chosen model fails.

    A chain belongs to a model (`for_model`) or to a task type (`for_task`), never to both.
    """

    name: Name
    models: tuple[Name, ...]
    for_model: str = ""
    for_task: TaskType | None = None
    enabled: bool = True


class ProfileSpec(_Spec, frozen=True, kw_only=True):
    """How a request of one priority weighs its candidates, and what it may expect."""

    priority: Priority
    quality_weight: Weight
    cost_weight: Weight
    latency_weight: Weight
    memory_weight: Weight
    success_weight: Weight
    floor_simple: QualityTier = "basic"
    floor_moderate: QualityTier = "good"
    floor_complex: QualityTier = "high"
    deadline_ms: Annotated[int, msgspec.Meta(ge=100, le=3_600_000)] = 120_000
    # Longest wait for a place at an endpoint.
    max_wait_ms: Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] = 30_000
    # From when on a failure is the caller's to see.
    commit: Commit = "first_token"
    # Most second attempts for slow answers, in percent of the requests; 0: none.
    hedge_percent: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0.0


Limit = Annotated[int, msgspec.Meta(ge=1, le=10**12)] | None


class LimitsSpec(_Spec, frozen=True, kw_only=True):
    """Most of something in a time, over all workers and nodes; None: no limit."""

    requests_per_minute: Limit = None
    requests_per_day: Limit = None
    tokens_per_minute: Limit = None
    tokens_per_day: Limit = None
    concurrent_streams: Limit = None


class TenantSpec(LimitsSpec, frozen=True, kw_only=True):
    """Who spends: a team or a customer. Its keys share its limits."""

    name: Name
    # Models its keys may use; empty: all.
    allowed_models: tuple[Name, ...] = ()
    # Its part of a contended endpoint, against other tenants'.
    share: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    enabled: bool = True


class KeySpec(LimitsSpec, frozen=True, kw_only=True):
    """An API key, without the key: only a keyed hash of the whole token is kept."""

    name: Name
    tenant: Name
    # What the token begins with, for people to recognise it by.
    prefix: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    # HMAC-SHA256 of the whole token under the key that `routing.policy.tokens` derives; hex.
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    allowed_models: tuple[Name, ...] = ()  # empty: what its tenant may use
    expires_at: datetime | None = None
    enabled: bool = True


class PriceSpec(_Spec, frozen=True, kw_only=True):
    """What a model costs from a moment on, until a later one of the same model takes over.

    Before the first, and where none is given, the model's own two prices count.
    """

    model: Name
    valid_from: datetime
    input_per_1k_usd: Usd
    output_per_1k_usd: Usd
    cached_input_per_1k_usd: Usd | None = None  # None: as input
    embedding_per_1k_usd: Usd | None = None  # None: as input
    per_request_usd: Usd = Decimal(0)


class HostCostSpec(_Spec, frozen=True, kw_only=True):
    """What an hour of a host's work costs, as its models' price: energy and depreciation."""

    host: Name
    watts: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
    energy_per_kwh_usd: Usd
    hardware_usd: Usd = Decimal(0)
    # Hours of work after which it is written off: three years by default.
    lifetime_h: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 26_280.0


class BudgetSpec(_Spec, frozen=True, kw_only=True):
    """How much may be spent on what in which time."""

    name: Name
    scope: BudgetScope
    # Whose: a tenant, key, task type, model or tag; empty for `all`.
    subject: str = ""
    period: BudgetPeriod = "month"
    time_zone: str = "UTC"
    limit_usd: Usd
    # Hard: never exceeded by a nano-dollar. Soft: only told of.
    hard: bool = True
    # Percent of the limit at which cost.threshold_exceeded is published, once a period each.
    thresholds: tuple[Annotated[int, msgspec.Meta(ge=1, le=1000)], ...] = (50, 80, 100)
    when_exhausted: WhenExhausted = "refuse"
    enabled: bool = True


class SavingsSpec(_Spec, frozen=True, kw_only=True):
    """What every answer's cost is compared with."""

    # A model's name; empty: the first available model that can do the task, by name.
    baseline: str = ""


class PolicyDocument(_Spec, frozen=True, kw_only=True):
    """A whole policy. `version` counts saved changes; files leave it out."""

    models: tuple[ModelSpec, ...] = ()
    endpoints: tuple[EndpointSpec, ...] = ()
    offerings: tuple[OfferingSpec, ...] = ()
    chains: tuple[ChainSpec, ...] = ()
    profiles: tuple[ProfileSpec, ...] = ()
    tenants: tuple[TenantSpec, ...] = ()
    keys: tuple[KeySpec, ...] = ()
    prices: tuple[PriceSpec, ...] = ()
    host_costs: tuple[HostCostSpec, ...] = ()
    budgets: tuple[BudgetSpec, ...] = ()
    savings: SavingsSpec = SavingsSpec()
    version: int = 0


DEFAULT_PROFILES: tuple[ProfileSpec, ...] = (
    # Low priority asks for thrift, critical for the best answer soonest: see docs/routing.md.
    ProfileSpec(
        priority="low",
        quality_weight=1,
        cost_weight=4,
        latency_weight=1,
        memory_weight=3,
        success_weight=2,
    ),
    ProfileSpec(
        priority="normal",
        quality_weight=4,
        cost_weight=3,
        latency_weight=2,
        memory_weight=2,
        success_weight=3,
    ),
    ProfileSpec(
        priority="high",
        quality_weight=6,
        cost_weight=1,
        latency_weight=3,
        memory_weight=1,
        success_weight=4,
    ),
    ProfileSpec(
        priority="critical",
        quality_weight=8,
        cost_weight=0,
        latency_weight=3,
        memory_weight=0,
        success_weight=6,
    ),
)
