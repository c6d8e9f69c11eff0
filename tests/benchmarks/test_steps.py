"""What a key's controls add to a request, in steps of the interpreter: no neighbour blurs those."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Of the steps without them; 0.146 with CPython 3.11, and other versions count a little otherwise.
MOST_MORE = 0.18


def test_budgets_limits_and_a_key_add_few_steps_to_a_request() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.steps", "0"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"\| all \| (\d+) \| (\d+) \|", done.stdout)
    assert found is not None, done.stdout
    without, with_ = map(int, found.groups())
    # Something was counted, and the controls were in force.
    assert 1_000 < without < with_
    assert with_ - without <= MOST_MORE * without
