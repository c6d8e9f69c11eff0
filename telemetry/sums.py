"""Requests in sum: what a batch adds up to, and how it travels until it is folded in.

A batch's sums go into one row of `telemetry_requestdelta`, in the transaction that stores its
records; the leader folds those rows into the tables that reports read (telemetry/folding.py).
"""

from collections.abc import Iterable, Mapping

import msgspec

from telemetry.histogram import bucket
from telemetry.record import RequestRecord

# (start, tenant, model, task type, kind); the start in seconds since the epoch.
GroupKey = tuple[int, str, str, str, str]


class Sums(msgspec.Struct, array_like=True, gc=False):
    """Requests of one group in one span of time; see `telemetry.models.RequestSums`.

    Fields are appended at the end only, as those of a record: rows wait in the database.
    """

    requests: int = 0
    successes: int = 0
    fallbacks: int = 0
    simulated: int = 0
    response_ms: int = 0
    response_max_ms: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_nusd: int = 0
    cost_unknown: int = 0
    measured: int = 0
    measured_cost_nusd: int = 0
    measured_baseline_nusd: int = 0
    estimated: int = 0
    estimated_cost_nusd: int = 0
    estimated_baseline_nusd: int = 0
    uncompared: int = 0
    buckets: dict[int, int] = {}

    def add(self, record: RequestRecord) -> None:
        """Count one request."""
        took_ms = record.response_time_ms
        self.requests += 1
        self.successes += record.success
        self.fallbacks += record.fallback_used
        self.simulated += record.simulated
        self.response_ms += took_ms
        if took_ms > self.response_max_ms:
            self.response_max_ms = took_ms
        index = bucket(took_ms)
        self.buckets[index] = self.buckets.get(index, 0) + 1
        if record.prompt_tokens or record.completion_tokens or record.cost_nusd:
            self._add_money(record)

    def _add_money(self, record: RequestRecord) -> None:
        cost_nusd, baseline_nusd = record.cost_nusd, record.baseline_nusd
        self.prompt_tokens += record.prompt_tokens
        self.cached_tokens += record.cached_tokens
        self.completion_tokens += record.completion_tokens
        self.cost_nusd += cost_nusd
        self.cost_unknown += not record.cost_known
        if not (record.cost_known and record.baseline_known):
            self.uncompared += 1
        elif record.usage_estimated:
            self.estimated += 1
            self.estimated_cost_nusd += cost_nusd
            self.estimated_baseline_nusd += baseline_nusd
        else:
            self.measured += 1
            self.measured_cost_nusd += cost_nusd
            self.measured_baseline_nusd += baseline_nusd

    def merge(self, other: "Sums") -> None:
        """Add what another one counted."""
        most_ms = max(self.response_max_ms, other.response_max_ms)
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.response_max_ms = most_ms
        mine = self.buckets
        for index, count in other.buckets.items():
            mine[index] = mine.get(index, 0) + count


_NUMBERS = tuple(name for name in Sums.__struct_fields__ if name != "buckets")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[GroupKey, Sums]]).decode


def packed(minutes: Mapping[GroupKey, Sums]) -> bytes:
    """Return sums as they are kept until they are folded in."""
    return _encode(list(minutes.items()))


def merged(contents: Iterable[bytes]) -> dict[GroupKey, Sums]:
    """Return the sum of what `packed` made; raises msgspec.DecodeError for anything else."""
    minutes: dict[GroupKey, Sums] = {}
    for content in contents:
        for key, sums in _decode(content):
            known = minutes.get(key)
            if known is None:
                minutes[key] = sums
            else:
                known.merge(sums)
    return minutes


def storable(key: GroupKey) -> GroupKey:
    """Return the key without NUL, which PostgreSQL's texts cannot hold."""
    start, *names = key
    tenant, model, task, kind = (name.replace("\0", "") for name in names)
    return start, tenant, model, task, kind
