"""How a budget stands, for the admin: figures, and a small chart of the period's spend."""

from django.utils.html import format_html
from django.utils.safestring import SafeString

from routing.treasury.report import Standing

WIDTH, HEIGHT, EDGE = 320, 64, 2


def usd(nusd: int | None) -> str:
    """Return an amount with two digits, or as many as a small one needs."""
    if nusd is None:
        return "-"
    amount = nusd / 1e9
    return f"${amount:,.{2 if amount == 0 or amount >= 1 else 6}f}"


def percent(one: Standing) -> int:
    """Return how much of the limit is spent, in whole percent."""
    return 100 * one.spent_nusd // one.limit_nusd if one.limit_nusd else 0


def panel(one: Standing) -> SafeString:
    """Return the figures of the present period with the chart of what was spent in it."""
    said = []
    if one.forecast_nusd is not None:
        said.append(f"forecast {usd(one.forecast_nusd)}")
    if one.ends_at is not None:
        said.append(f"until {one.ends_at:%Y-%m-%d %H:%M} UTC")
    return format_html(
        "<div>{} of {} spent ({} %), {} held, {} left{}.</div>{}",
        usd(one.spent_nusd),
        usd(one.limit_nusd),
        percent(one),
        usd(one.held_nusd),
        usd(one.remaining_nusd),
        f"; {', '.join(said)}" if said else "",
        chart(one),
    )


def chart(one: Standing) -> SafeString:
    """Return the growing sum as a line, below the limit as a dashed one; nothing without points."""
    if not one.series:
        return SafeString("")
    start = one.starts_at.timestamp() if one.ends_at else one.series[0].at.timestamp()
    end = (one.ends_at or one.series[-1].at).timestamp()
    top = max(one.limit_nusd, one.series[-1].spent_nusd, 1)

    def place(at_s: float, nusd: int) -> str:
        x = WIDTH * (at_s - start) / max(end - start, 1)
        return f"{min(max(x, 0), WIDTH):.1f},{HEIGHT - HEIGHT * nusd / top:.1f}"

    points = [place(start, 0)]
    points += [place(point.at.timestamp(), point.spent_nusd) for point in one.series]
    limit_y = f"{HEIGHT - HEIGHT * one.limit_nusd / top:.1f}"
    return format_html(
        '<svg width="{w}" height="{high}" viewBox="0 -{edge} {w} {high}" role="img"'
        ' aria-label="Spent so far" style="display: block; margin-top: 0.75rem">'
        '<line x1="0" x2="{w}" y1="{y}" y2="{y}" stroke="currentColor" stroke-dasharray="4"/>'
        '<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="2"/></svg>',
        w=WIDTH,
        # A line on the edge is drawn half beyond it.
        high=HEIGHT + 2 * EDGE,
        edge=EDGE,
        y=limit_y,
        points=" ".join(points),
    )
