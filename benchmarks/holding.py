"""What a paid request costs its worker: `python -m benchmarks.holding`. No network, no database."""

import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from routing.engine.catalog import BudgetSpec
from routing.engine.ledger import Ledger
from telemetry.record import Charge, RequestRecord
from telemetry.spool.inflight import InFlight, template

ROUNDS = 100_000


def microseconds(what: Callable[[], object]) -> float:
    """Return how long one of `ROUNDS` calls takes, in µs: the best of five."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(ROUNDS):
            what()
        best = min(best, time.perf_counter() - began)
    return best / ROUNDS * 1e6


def main() -> None:
    ledger = Ledger()
    limit = Decimal(10**6)
    ledger.bind(
        [
            BudgetSpec(name="all", scope="all", limit_usd=limit),
            BudgetSpec(name="team", scope="tenant", subject="t", period="day", limit_usd=limit),
        ],
        1,
    )
    now = time.time()
    wallet = ledger.wallet("t", "k", "code", "", now)
    assert wallet is not None
    payers = wallet.payers("m")
    for purse in payers.purses:
        purse.granted = 2**60

    def hold() -> None:
        if not payers.hold(1000):
            ledger.take(payers, 1000, 1.0)
        if not payers.settle(1000, 900):
            ledger.settle(payers, 1000, 900)

    with tempfile.TemporaryDirectory() as directory:
        file = InFlight(Path(directory), "bench")
        record = RequestRecord(
            id=b"i" * 16, request_id="0" * 36, kind="route", task_type="code", priority="normal",
            created_at_us=0, selected_model="model", endpoint="endpoint", worker="web-0",
            charges=(Charge(payers.accounts, 1000),),
        )  # fmt: skip
        print(f"wallet of two budgets          {microseconds(wallet_of(ledger, now)):6.2f} µs")
        print(f"hold and settle, two budgets   {microseconds(hold):6.2f} µs")
        alike = template(record)
        slot = microseconds(lambda: file.close_slot(file.open(alike, b"i" * 16, 0, 12, 1000)))
        print(f"slot filled and cleared        {slot:6.2f} µs")
        file.close()


def wallet_of(ledger: Ledger, now: float) -> Callable[[], object]:
    return lambda: ledger.wallet("t", "k", "code", "", now)


if __name__ == "__main__":
    main()
