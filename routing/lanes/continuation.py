"""Going on from text that was released already, after its upstream failed."""

from collections.abc import Iterator
from os.path import commonprefix

from msgspec.structs import replace

from routing.engine.errors import AnswerDiverged, ProviderError, UpstreamTimeout
from routing.engine.policy import Candidate
from routing.lanes.attempt import CHARS_PER_TOKEN
from routing.providers.base import Call, Piece

# A continuation that repeats more than this of the answer has not understood its beginning.
COINCIDENCE_CHARS = 24


class Retrace:
    """Drops from a new answer what was released of the old one, as long as they are the same."""

    def __init__(self, released: str, endpoint: str) -> None:
        self.released, self._endpoint = released, endpoint
        self.at = 0  # how much of the released text the new answer has repeated

    def take(self, piece: Piece) -> Piece | None:
        """Return what `piece` adds, or None where it adds nothing yet; raises AnswerDiverged."""
        known = min(len(piece.text), len(self.released) - self.at)
        if not self.released.startswith(piece.text[:known], self.at):
            return self.differs(piece)
        self.at += known
        ends = piece.tool_calls or piece.finish_reason
        if self.at < len(self.released):
            return self.differs(replace(piece, text="")) if ends else None
        if not ends and known == len(piece.text):
            return None
        return replace(piece, text=piece.text[known:])

    def differs(self, piece: Piece) -> Piece:
        """Return what to make of an answer that goes another way."""
        said = f"Endpoint '{self._endpoint}' answered otherwise than what was sent already."
        raise AnswerDiverged(self._endpoint, said)


class Echo(Retrace):
    """The same for a continuation, whose server may repeat what it was given, or begin anew.

    A few words in common with the beginning are the continuation's own.
    """

    def differs(self, piece: Piece) -> Piece:
        repeated = commonprefix((self.released[self.at :], piece.text))
        if self.at + len(repeated) >= COINCIDENCE_CHARS:
            return super().differs(piece)
        return replace(piece, text=self.released[: self.at] + piece.text)


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
