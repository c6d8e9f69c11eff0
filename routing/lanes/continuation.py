"""Going on from text that was released already, after its upstream failed."""

from collections.abc import Iterator

from msgspec.structs import replace

from routing.engine.errors import AnswerDiverged, ProviderError, UpstreamTimeout
from routing.engine.policy import Candidate
from routing.lanes.attempt import CHARS_PER_TOKEN
from routing.providers.base import Call, Piece


class Retrace:
    """Drops from a new answer what was released of the old one, as long as they are the same."""

    def __init__(self, released: str, endpoint: str) -> None:
        self._released, self._endpoint = released, endpoint
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at == len(self._released)

    def take(self, piece: Piece) -> Piece:
        """Return what `piece` adds to the released text; raises AnswerDiverged."""
        known = min(len(piece.text), len(self._released) - self._at)
        if not self._released.startswith(piece.text[:known], self._at):
            raise self._diverged()
        self._at += known
        if not self.done and (piece.tool_calls or piece.finish_reason):
            raise self._diverged()
        return replace(piece, text=piece.text[known:]) if known else piece

    def _diverged(self) -> AnswerDiverged:
        said = f"Endpoint '{self._endpoint}' answered otherwise than what was sent already."
        return AnswerDiverged(self._endpoint, said)


def continuing(call: Call, released: str) -> Call | None:
    """Return a call that goes on from `released`; None where none can.

    A grammar begins anew with every call, so an answer in a set format has no second half.
    """
    shape = call.params.get("response_format")
    if isinstance(shape, dict) and shape.get("type") != "text":
        return None
    most = call.max_tokens
    if most is not None:
        most = max(1, most - len(released) // CHARS_PER_TOKEN)
    return replace(call, prefill=released, max_tokens=most)


def heirs(
    order: Iterator[Candidate], failed: Candidate, error: ProviderError
) -> Iterator[Candidate]:
    """Yield whom to ask for the rest: the same model first, elsewhere and then where it was.

    A silent endpoint is not asked twice.
    """
    again = not isinstance(error, UpstreamTimeout)
    for candidate in order:
        if again and candidate.model_name != failed.model_name:
            again = False
            yield failed
        yield candidate
    if again:
        yield failed
