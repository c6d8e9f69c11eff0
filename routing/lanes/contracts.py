"""The native contracts: what callers send and get; field names are the contract's own."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from routing.engine.catalog import (
    LONGEST_TAG,
    TAG_FORM,
    TAG_PATTERN,
    Commit,
    Complexity,
    Priority,
    QualityTier,
    TaskType,
)

MAX_TOKENS_LIMIT = 10_000_000

MaxTokens = Annotated[
    int, Meta(ge=1, le=MAX_TOKENS_LIMIT, description="Most tokens the answer may have.")
]
CostLimit = Annotated[
    float, Meta(ge=0, le=1_000_000, description="Most this request may cost, in US dollars.")
]
Temperature = Annotated[float, Meta(ge=0, le=2, description="Sampling temperature.")]
RetryAttempts = Annotated[
    int, Meta(ge=0, le=20, description="Most further attempts after the first one failed.")
]
MaxWait = Annotated[
    int,
    Meta(
        ge=0,
        le=3_600_000,
        description="Longest wait for a place, or for a breaker to let calls through, in ms.",
    ),
]
Tag = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=LONGEST_TAG,
        pattern=TAG_PATTERN,
        description=f"What the work is for, for budgets and reports; {TAG_FORM}.",
    ),
]
Prompt = Annotated[str, Meta(min_length=1, description="What the model is asked.")]


class SelectRequirements(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the chosen model must meet."""

    complexity: Complexity | None = None
    priority: Priority | None = None
    maxTokens: MaxTokens | None = None
    costLimit: CostLimit | None = None
    qualityRequirement: QualityTier | None = None


class SelectRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Asks which model would answer."""

    taskType: TaskType
    requirements: SelectRequirements | None = None
    explain: bool = False
    tag: Tag | None = None


class RouteRequirements(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the chosen model and its answer must meet."""

    complexity: Complexity | None = None
    priority: Priority | None = None
    maxTokens: MaxTokens | None = None
    costLimit: CostLimit | None = None
    qualityRequirement: QualityTier | None = None
    temperature: Temperature | None = None
    maxWaitMs: MaxWait | None = None


class RouteRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Asks for an answer, from whichever model is best."""

    taskType: TaskType
    prompt: Prompt
    requirements: RouteRequirements | None = None
    retryAttempts: RetryAttempts | None = None
    explain: bool = False
    stream: bool = False
    commit: Commit | None = None
    tag: Tag | None = None


class SystemMetrics(msgspec.Struct):
    memoryPressure: float
    availableMemoryGb: float
    cpuUsage: float


class ModelInfo(msgspec.Struct):
    capabilities: tuple[str, ...]
    speed: str
    quality_tier: str


class Scores(msgspec.Struct):
    """Parts of a score, each 0 to 1; `total` is their weighted mean.

    `waitMs`, the expected wait for a place, is part of `expectedMs`.
    """

    total: float
    quality: float
    cost: float
    latency: float
    memory: float
    success: float
    expectedMs: float
    waitMs: float


class Consideration(msgspec.Struct, omit_defaults=True):
    """One offering that was considered: scored, or rejected with the reason."""

    model: str
    endpoint: str
    scores: Scores | None = None
    rejected: str | None = None
    detail: str | None = None


class SelectResponse(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The choice. `fallbackUsed` and `degraded` say that something asked for had to be relaxed."""

    requestId: str
    selectedModel: str
    taskType: str
    fallbackUsed: bool
    alternatives: list[str]
    systemMetrics: SystemMetrics
    modelInfo: ModelInfo
    endpoint: str
    reason: str
    degraded: bool
    simulated: bool
    explanation: list[Consideration] | None = None


class RouteMetrics(msgspec.Struct, omit_defaults=True):
    """What the answer took; `queuedMs` only where it waited for a place at an endpoint."""

    responseTimeMs: int
    memoryPressure: float
    modelUsed: str
    tokensGenerated: int
    promptTokens: int
    queuedMs: int | None = None


class RouteResponse(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The answer and who gave it. For embeddings, `response` is the vector as JSON text."""

    requestId: str
    selectedModel: str
    response: str
    fallbackUsed: bool
    metrics: RouteMetrics
    endpoint: str
    reason: str
    finishReason: str
    degraded: bool
    simulated: bool
    costUsd: float | None = None
    embedding: list[float] | None = None
    explanation: list[Consideration] | None = None


class ProblemField(msgspec.Struct, omit_defaults=True):
    """One field at fault: `pointer` is a JSON pointer into the request."""

    pointer: str
    detail: str
    remedy: str = ""


class ProblemCandidate(msgspec.Struct):
    """Why one offering could not take the request."""

    model: str
    endpoint: str
    reason: str
    detail: str


class ProblemLimit(msgspec.Struct):
    """Which limit is used up, and whose it is: a key's or a tenant's."""

    name: str
    of: str
    owner: str
    most: int


class ProblemBudget(msgspec.Struct, omit_defaults=True):
    """The budget that could not pay: what is left of it, and when it begins anew, if it does."""

    name: str
    limitUsd: float
    remainingUsd: float
    neededUsd: float
    resetsAt: str | None = None


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457 problem details; `code` is stable, `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[ProblemField] | None = None
    candidates: list[ProblemCandidate] | None = None
    budget: ProblemBudget | None = None
    requestId: str | None = None
    limit: ProblemLimit | None = None


Json = dict[str, Any]
encode = msgspec.json.Encoder().encode
decode_select = msgspec.json.Decoder(SelectRequest).decode
decode_route = msgspec.json.Decoder(RouteRequest).decode
