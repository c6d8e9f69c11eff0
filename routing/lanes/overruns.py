"""Upstreams that keep to no limit: told in the log, once an hour for each endpoint."""

import logging
from collections.abc import Callable

from routing.engine.policy import Candidate

logger = logging.getLogger(__name__)

AGAIN_S = 3600.0


class Overruns:
    """What one worker has told of its endpoints."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told_at: dict[str, float] = {}

    def costly(self, candidate: Candidate, nusd: int) -> None:
        """An answer cost `nusd` more than the most it was thought to cost."""
        self._tell(candidate, f"charged ${nusd / 1e9:.9f} more than was held for the call")

    def incredible(self, candidate: Candidate) -> None:
        """An upstream says that it used what cannot be true."""
        self._tell(candidate, "counted what cannot be true; all that was held is charged")

    def _tell(self, candidate: Candidate, what: str) -> None:
        now, endpoint = self._clock(), candidate.endpoint_name
        if now - self._told_at.get(endpoint, -AGAIN_S) < AGAIN_S:
            return
        self._told_at[endpoint] = now
        logger.warning(
            "Endpoint '%s' overran a budget's hold: model '%s' %s. More of this endpoint's overruns"
            " are only counted for an hour.",
            endpoint, candidate.model_name, what,
        )  # fmt: skip
