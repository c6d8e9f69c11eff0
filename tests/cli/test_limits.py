"""`limits`: a row for each, and what is used up stands out."""

from tests.cli.conftest import Run


def test_each_has_a_row_with_its_figures(run: Run) -> None:
    header, first, second, _, last = run("limits").out.splitlines()
    assert header.split()[:3] == ["WHOSE", "LIMIT", "MOST"]
    assert first.split()[:7] == ["tenant", "acme", "requests", "per", "day", "1,000", "990"]
    assert "2026-11-26 20:31:15" in first
    assert second.split()[:4] == ["key", "ci", "tokens", "per"]
    assert last == "1 of 2 limits used up"
