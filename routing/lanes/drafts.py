"""What calls leave if this process dies with them, encoded once for all calls alike."""

from routing.engine.need import Need
from routing.engine.policy import Candidate
from telemetry.record import Charge, RequestKind, RequestRecord
from telemetry.spool.inflight import template

WORKER_LOST = "worker_lost"
LOST_STATUS = 500
# Callers choose their tags, so there is no end of what is not alike.
MOST_KEPT = 4096


class Drafts:
    """The templates of one worker's calls, for as long as its policy is the same."""

    __slots__ = ("_kept", "_worker")

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._kept: dict[tuple[object, ...], bytes] = {}

    def clear(self) -> None:
        self._kept.clear()

    def template(
        self,
        kind: RequestKind,
        need: Need,
        candidate: Candidate,
        chosen: Candidate,
        accounts: bytes,
        *,
        stream: bool,
    ) -> bytes:
        """Return what a call to `candidate` leaves; raises SpoolUnavailable."""
        alike = (
            need.tenant, need.key, need.tag, need.task, need.priority, kind, stream,
            candidate.id, chosen.model_name, accounts,
        )  # fmt: skip
        found = self._kept.get(alike)
        if found is not None:
            return found
        record = RequestRecord(
            id=b"",
            request_id="",
            kind=kind,
            task_type=need.task,
            priority=need.priority,
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
            tenant=need.tenant,
            key=need.key,
            tag=need.tag,
            charges=(Charge(accounts, 0),),
        )
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        kept = self._kept[alike] = template(record)
        return kept
