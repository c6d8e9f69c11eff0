"""What calls leave if this process dies with them, encoded once for all calls alike."""

from routing.engine.payers import Payers
from routing.engine.policy import Candidate
from telemetry.record import Charge, RequestKind, RequestRecord
from telemetry.spool.inflight import template

WORKER_LOST = "worker_lost"
LOST_STATUS = 500
# Callers choose their tags, so there is no end of what is not alike.
MOST_KEPT = 4096


# By whom it is paid, who is called, who was chosen, kind, whether it is streamed, priority and tag.
Alike = tuple[Payers, Candidate, Candidate, RequestKind, bool, str, str]


class Drafts:
    """The templates of one worker's calls, for as long as its policy is the same."""

    __slots__ = ("_kept", "_worker", "get")

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._kept: dict[Alike, bytes] = {}
        self.get = self._kept.get

    def clear(self) -> None:
        self._kept.clear()

    def make(self, alike: Alike) -> bytes:
        """Return what calls like these leave, for `get` to find; raises SpoolUnavailable."""
        payers, candidate, chosen, kind, stream, priority, tag = alike
        tenant, key, task = payers.whose
        record = RequestRecord(
            id=b"",
            request_id="",
            kind=kind,
            task_type=task,
            priority=priority,
            created_at_us=0,
            selected_model=candidate.model_name,
            endpoint=candidate.endpoint_name,
            chosen_model=chosen.model_name,
            success=False,
            status=LOST_STATUS,
            error_type=WORKER_LOST,
            error_message="The worker died with the request.",
            usage_estimated=True,
            stream=stream,
            simulated=candidate.endpoint.simulated,
            worker=self._worker,
            tenant=tenant,
            key=key,
            tag=tag,
            charges=(Charge(payers.accounts, 0),),
        )
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        kept = self._kept[alike] = template(record)
        return kept
