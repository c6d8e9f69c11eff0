"""Who holds leased money, and giving up what a holder that is lost for good will never settle."""

import datetime as dt
import logging
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import Count, F, Max, Min, Sum
from django.utils import timezone

from routing.models import Lease
from routing.treasury.desk import LEASE_TTL_S

logger = logging.getLogger(__name__)

WARNING = (
    "What is released may be spent again by others. If the holder lives on, or its spool comes"
    " back, what it spent is counted on top, and may exceed the budget."
)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process with money that is neither settled nor given back."""

    spool: str
    name: str
    leases: int
    held_nusd: int
    since: dt.datetime
    expires_at: dt.datetime

    @property
    def last_sign_at(self) -> dt.datetime:
        """Return when it last said that it lives; a living one does so every minute."""
        return last_sign(self.expires_at)

    def lives(self, now: dt.datetime) -> bool:
        return self.expires_at > now


def last_sign(expires_at: dt.datetime) -> dt.datetime:
    """Return when the holder of a lease last prolonged it."""
    return expires_at - dt.timedelta(seconds=LEASE_TTL_S)


class NoSuchHolder(Exception):
    """Nothing is held under that name, or in several spools."""


class HolderLives(Exception):
    """The holder gave a sign of life in the last five minutes."""


def holders() -> list[Holder]:
    """Return everybody who holds money, those first who were longest silent."""
    rows = (
        Lease.objects.filter(closed=False, granted_nusd__gt=F("settled_nusd"))
        .values("spool", "holder")
        .annotate(
            leases=Count("id"),
            held=Sum(F("granted_nusd") - F("settled_nusd")),
            since=Min("created_at"),
            until=Max("expires_at"),
        )
        .order_by("until", "spool", "holder")
    )
    return [
        Holder(
            row["spool"], row["holder"], row["leases"], int(row["held"]), row["since"], row["until"]
        )
        for row in rows
    ]


@transaction.atomic
def release(name: str, *, spool: str = "", force: bool = False, by: str) -> Holder:
    """End every lease of a holder, so that what it held is free; return how it stood.

    Raises NoSuchHolder, and HolderLives without `force`.
    """
    found = [one for one in holders() if one.name == name and spool in ("", one.spool)]
    if len(found) != 1:
        several = f"is in {len(found)} spools; say which" if found else "holds nothing"
        raise NoSuchHolder(f"'{name}' {several}")
    (holder,) = found
    lives = holder.lives(timezone.now())
    if lives and not force:
        raise HolderLives(
            f"'{name}' lives, or did at {holder.last_sign_at:%Y-%m-%d %H:%M:%S} UTC: a holder"
            " counts as lost after five minutes of silence"
        )
    with connection.cursor() as cursor:
        cursor.execute("SELECT orchestra_bury(%s, %s)", [holder.spool, holder.name])
        (freed,) = cursor.fetchone()
    logger.warning(
        "Released %d nano-dollars held by %s of spool %s, last heard of at %s%s, by %s.",
        freed, name, holder.spool, holder.last_sign_at.isoformat(timespec="seconds"),
        ", forced" if lives else "", by,
    )  # fmt: skip
    return holder
