"""One finished request, as the data plane hands it to the spool."""

from collections.abc import Iterable
from typing import Literal

import msgspec

RequestKind = Literal["select", "route", "chat", "embed"]

# An attempt that was ended because another one, made beside it, answered first.
HEDGE_LOST = "hedge_lost"
LEASE_BYTES = 16


class Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One call to one offering; `error_type` is empty when it answered."""

    model: str
    endpoint: str
    duration_ms: int
    error_type: str = ""
    completion_tokens: int = 0  # about how much of an answer came before it failed

    @property
    def failed(self) -> bool:
        """Losing a race is no failure."""
        return self.error_type not in ("", HEDGE_LOST)


class Charge(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What each of some leases paid for a request; settled when the record is stored.

    Of thousands of requests, the same budgets pay: their leases stand together, as one value.
    """

    leases: bytes  # 16 bytes for each, its UUID
    nusd: int


def apart(leases: bytes) -> list[bytes]:
    """Return the leases that stand together in a charge."""
    return [leases[at : at + LEASE_BYTES] for at in range(0, len(leases), LEASE_BYTES)]


def by_lease(charges: Iterable[Charge]) -> dict[bytes, int]:
    """Return what each lease paid in sum."""
    together: dict[bytes, int] = {}
    for charge in charges:
        together[charge.leases] = together.get(charge.leases, 0) + charge.nusd
    sums: dict[bytes, int] = {}
    for leases, nusd in together.items():
        for lease in apart(leases):
            sums[lease] = sums.get(lease, 0) + nusd
    return sums


def summed(charges: Iterable[Charge]) -> tuple[Charge, ...]:
    """Return one charge for each lease."""
    return tuple([Charge(lease, nusd) for lease, nusd in by_lease(charges).items()])


class RequestRecord(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """Everything kept about a request: never its prompt, never its answer.

    Units are in the names. Fields are appended at the end only: a spool written by an older worker
    must still decode, and `array_like` goes by position. Plain values cannot form a cycle, so the
    garbage collector need not look at them.
    """

    id: bytes  # 16 bytes, UUIDv7: the primary key, and what makes shipping twice harmless
    request_id: str
    kind: RequestKind
    task_type: str
    priority: str
    created_at_us: int  # microseconds since the epoch, UTC, when the request came
    selected_model: str  # the model that answered; the chosen one where none was called
    endpoint: str = ""
    chosen_model: str = ""  # the first choice, before any failover
    fallback_used: bool = False
    degraded: bool = False
    reason: str = ""  # why this one, for people; e.g. "best score 0.82 of 7"
    success: bool = True
    status: int = 200  # the HTTP status the caller saw
    error_type: str = ""  # stable code, e.g. "upstream_timeout"
    error_message: str = ""  # scrubbed: no prompt, no credential
    response_time_ms: int = 0
    selection_time_us: int = 0
    first_token_ms: int = 0  # 0 where nothing was streamed
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usage_estimated: bool = False  # the upstream sent no usage; tokens were estimated
    cost_nusd: int = 0
    cost_known: bool = True
    resource_pressure: float = 0.0
    stream: bool = False
    simulated: bool = False
    worker: str = ""
    attempts: tuple[Attempt, ...] = ()
    cost_limit_nusd: int = 0  # the caller's own limit; 0 where none was given
    estimated_cost_nusd: int = 0  # what a request refused for `cost_limit` would have cost at most
    tenant: str = ""  # whose request it was
    key: str = ""  # the name of the API key it came with
    tag: str = ""  # what the caller called the work it was for
    cached_tokens: int = 0  # of the prompt's tokens, those the upstream had at hand
    charges: tuple[Charge, ...] = ()
    # What the admin's baseline model would have cost; with baseline_known.
    baseline_model: str = ""
    baseline_nusd: int = 0
    baseline_known: bool = False


def credited_model(record: RequestRecord) -> str:
    """Return the model that a request counts for: who answered, else who was tried last, else who
    was chosen; empty where nobody was."""
    if record.selected_model:
        return record.selected_model
    return record.attempts[-1].model if record.attempts else record.chosen_model
