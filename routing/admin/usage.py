"""How much of a tenant's or key's limits is used now, on its page."""

from django.utils.html import format_html_join

from routing.coordination.rates_board import Usage
from routing.engine.catalog import LimitsSpec
from routing.engine.rates import Owner, limits_of
from routing.models.limits import LIMITS, Limited
from routing.policy.usage import AWAY, current_usage


def usage_shown(of: Owner, owner: str, row: Limited) -> str:
    """Return a line for each stored limit: used, about to be used by workers, and left.

    What a form has just refused is in `row`, and is nobody's limit.
    """
    stored = type(row)._default_manager.filter(pk=row.pk).values(*LIMITS).first()
    limits = list(limits_of(of, owner, LimitsSpec(**(stored or {}))))
    if not limits:
        return "no limits"
    try:
        usages = current_usage(limits)
    except AWAY:
        return "not known while Redis is away: each worker keeps its share"
    return format_html_join("", "{}<br>", ((_line(usage),) for usage in usages))


def _line(usage: Usage) -> str:
    name = usage.limit.name.replace("_", " ")
    return (
        f"{name}: {usage.used:,} of {usage.limit.most:,} used,"
        f" {usage.leased:,} held by workers, {usage.left:,} left"
    )
