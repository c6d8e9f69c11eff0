"""When an answer was slow: judged by its generation alone, so that no queue and no load counts."""

# Slower per token than this many times its own usual pace, and slower than the floor altogether.
SLOW_FACTOR = 3.0
SLOW_FLOOR_MS = 10_000.0
# Before so many answers nothing is usual.
LEAST_ANSWERS = 10
ALPHA = 0.2
# Slow answers move what is usual as well, or an upstream that changed for good would never be well.
ALPHA_SLOW = 0.02


class UsualPace:
    """How long an offering usually takes for a token, in ms; slow answers hardly change it."""

    __slots__ = ("answers", "ms_per_token")

    def __init__(self) -> None:
        self.answers = 0
        self.ms_per_token = 0.0

    def judge(self, took_ms: float, tokens: int) -> bool:
        """Learn from one generation of `tokens` and return whether it was slow."""
        if tokens <= 0 or took_ms <= 0:
            return False
        slow = self.answers >= LEAST_ANSWERS and is_slow(took_ms, self.ms_per_token * tokens)
        alpha = ALPHA_SLOW if slow else ALPHA if self.answers else 1.0
        self.ms_per_token += alpha * (took_ms / tokens - self.ms_per_token)
        self.answers += 1
        return slow


def is_slow(took_ms: float, usual_ms: float) -> bool:
    """Return whether a generation took far longer than is usual for as many tokens."""
    return took_ms > SLOW_FLOOR_MS and took_ms > SLOW_FACTOR * usual_ms


def generation_ms(
    *, duration_ms: float, ttft_ms: float | None, work_ms: float, queues: bool
) -> float:
    """Return how long the tokens of an answer took, or 0 where that cannot be told.

    `work_ms` is the upstream's own word for it. A stream's time begins with its first token. The
    whole of an answer counts only where the upstream does not queue: elsewhere it may have waited.
    """
    if work_ms > 0:
        return work_ms
    if ttft_ms is not None:
        return max(duration_ms - ttft_ms, 0.0)
    return 0.0 if queues else duration_ms
