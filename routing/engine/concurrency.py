"""How many calls at once an endpoint bears, found out by trying. Pure: time is an argument.

TCP's rule (Chiu and Jain 1989; slow start, Jacobson 1988): double while every place is taken and
nothing complains, from the first complaint on add one at a time, and give up a third at each
complaint. As in CUBIC (Ha, Rhee and Xu 2008) it adds faster once no complaint came for a while:
what cut the limit is over. Complaints are 429, 503, timeouts, and waiting inside the upstream.
"""

import msgspec

LEAST, MOST = 1, 8192
# Ollama answers OLLAMA_NUM_PARALLEL (1 by default) at once and lets the others wait inside. Servers
# of OpenAI's protocol batch, or are many behind one name, and say 429 or 503 when it is too much.
START = {"ollama": 4, "openai": 4096}
CUT = 0.7
DOUBLE_EVERY_S = 0.1
ADD_EVERY_S = 1.0
# So long after the last complaint it adds half of what there is, no longer one.
CALM_S, CALM_GROWTH = 3.0, 1.5
# One complaint in a while counts: the calls under way complain of the same moment.
CUT_EVERY_S = 1.0
# Waiting inside the upstream is a complaint beyond this share of its work, and this long.
QUEUED_SHARE = 0.5
QUEUED_MS = 50.0
# A first token this much later than the usual best is one, too.
TTFT_FACTOR, TTFT_MARGIN_MS = 2.0, 250.0
# The usual best follows a lasting change: about a hundred answers.
BASELINE_RISE = 0.01
# A single slow answer among many says nothing.
COMPLAINING_SHARE = 0.2


class Ceiling(msgspec.Struct):
    """The limit in force; `settled` from the first complaint on."""

    limit: float
    settled: bool = False
    changed_at: float = float("-inf")
    cut_at: float = float("-inf")

    def vote(self, vote: int, now: float) -> None:
        """Take a worker's vote: 1 to raise, -1 to cut, 0 to leave it."""
        if vote < 0:
            self._cut(now)
        elif vote > 0:
            self._raise(now)

    def _cut(self, now: float) -> None:
        if now - self.cut_at < CUT_EVERY_S:
            return
        self.limit = max(float(LEAST), self.limit * CUT)
        self.settled, self.changed_at, self.cut_at = True, now, now

    def _raise(self, now: float) -> None:
        if now - self.changed_at < (ADD_EVERY_S if self.settled else DOUBLE_EVERY_S):
            return
        self.limit, self.changed_at = min(float(MOST), self._raised(now)), now

    def _raised(self, now: float) -> float:
        if not self.settled:
            return self.limit * 2
        calm = now - self.cut_at >= CALM_S
        return max(self.limit + 1, self.limit * CALM_GROWTH) if calm else self.limit + 1

    @property
    def whole(self) -> int:
        return int(self.limit)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one call said of its endpoint; milliseconds."""

    ok: bool = True
    refused: bool = False  # 429, 503 or silence
    ttft_ms: float | None = None
    queued_ms: float | None = None  # waited inside the upstream, by its own account
    busy_ms: float | None = None  # worked on by the upstream


class Signals:
    """Collects outcomes until the next vote."""

    __slots__ = ("_best_ttft_ms", "_complaints", "_done", "_ill", "_refused", "saturated")

    def __init__(self) -> None:
        self.saturated = False
        self._done = self._complaints = self._refused = 0
        self._ill = False  # nobody was answered when it last complained
        self._best_ttft_ms: dict[str, float] = {}

    def begun(self, offering: str, ttft_ms: float) -> None:
        """Count an answer that has begun: streams may last long after they have said enough."""
        self._done += 1
        self._complaints += self._late(offering, ttft_ms)

    def see(self, offering: str, outcome: Outcome) -> None:
        self._refused += outcome.refused
        if outcome.ok:
            self._done += 1
            slow = self._waited(outcome)
            if outcome.ttft_ms is not None:
                slow = self._late(offering, outcome.ttft_ms) or slow
            self._complaints += slow

    def vote(self) -> int:
        """Return what the outcomes since the last time speak for: 1, 0 or -1."""
        done, complaints, refused = self._done, self._complaints, self._refused
        saturated, self.saturated = self.saturated, False
        self._done = self._complaints = self._refused = 0
        if refused and not done:
            # It is ill rather than busy, which breakers see to: fewer calls at once are no cure.
            again, self._ill = self._ill, True
            return 0 if again else -1
        self._ill = self._ill and not done
        if refused or (complaints and complaints >= COMPLAINING_SHARE * done):
            return -1
        return 1 if saturated and done else 0

    def _waited(self, outcome: Outcome) -> bool:
        queued, busy = outcome.queued_ms, outcome.busy_ms or 0.0
        return queued is not None and queued > max(QUEUED_MS, QUEUED_SHARE * busy)

    def _late(self, offering: str, ttft_ms: float) -> bool:
        best = self._best_ttft_ms.get(offering, ttft_ms)
        late = ttft_ms > TTFT_FACTOR * best + TTFT_MARGIN_MS
        moved = best + BASELINE_RISE * (ttft_ms - best) if ttft_ms > best else ttft_ms
        self._best_ttft_ms[offering] = moved
        return late


def start_of(provider: str) -> int:
    """Return the limit to begin with at a provider of this kind."""
    return START.get(provider, START["openai"])
