"""Where the budgets stand: what is spent and leased of each period. Written by SQL functions only.

The functions (`routing.treasury.functions`) keep one sum: a window's `leased_nusd` is what its open
leases have granted and not yet settled. Django reads these tables.
"""

import uuid

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class BudgetWindow(models.Model):
    """One period of one budget; the id follows from the budget's name, its period and its start."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    budget = models.CharField(max_length=200, default="", db_default="", db_index=True)
    period = models.CharField(max_length=10, default="", db_default="")
    starts_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField(null=True)
    hard = models.BooleanField(default=True, db_default=True)
    limit_nusd = models.BigIntegerField(default=0, db_default=0)
    # By which version of the policy the limit is so; an older one does not change it back.
    policy_version = models.BigIntegerField(default=-1, db_default=-1)
    spent_nusd = models.BigIntegerField(default=0, db_default=0)
    leased_nusd = models.BigIntegerField(default=0, db_default=0)
    # What answers cost beyond what was held for them: upstreams that keep to no limit.
    overrun_nusd = models.BigIntegerField(default=0, db_default=0)
    updated_at = models.DateTimeField(auto_now=True, db_default=Now())

    class Meta:
        ordering = ["budget", "-starts_at"]
        constraints = [
            models.CheckConstraint(name="budget_window_sums", condition=Q(leased_nusd__gte=0)),
        ]

    def __str__(self) -> str:
        return f"{self.budget} from {self.starts_at:%Y-%m-%d %H:%M}" if self.starts_at else "?"


class Lease(models.Model):
    """What one worker may spend of a window: `granted_nusd` in sum, of which some is settled."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    window = models.ForeignKey(BudgetWindow, on_delete=models.CASCADE, related_name="leases")
    # Whose records say what was spent of it: the spool, and the process that wrote there.
    spool = models.CharField(max_length=200)
    holder = models.CharField(max_length=300)
    granted_nusd = models.BigIntegerField()
    settled_nusd = models.BigIntegerField(default=0, db_default=0)
    expires_at = models.DateTimeField()
    closed = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField(auto_now_add=True, db_default=Now())

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(
                name="lease_sums", condition=Q(granted_nusd__gte=models.F("settled_nusd"))
            ),
        ]
        indexes = [
            models.Index(
                fields=["spool", "holder"], name="routing_lease_open", condition=Q(closed=False)
            )
        ]

    def __str__(self) -> str:
        return f"{self.holder}: {self.granted_nusd} of {self.window_id}"


class BudgetSpend(models.Model):
    """What was settled of a window in a minute (of hours' budgets) or an hour: the chart."""

    window = models.ForeignKey(BudgetWindow, on_delete=models.CASCADE, related_name="spends")
    at = models.DateTimeField()
    nusd = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        ordering = ["at"]
        constraints = [
            models.UniqueConstraint(fields=["window", "at"], name="routing_budgetspend_key")
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.nusd}"


class BudgetAlert(models.Model):
    """A threshold that was passed; it waits here until it is told."""

    window = models.ForeignKey(BudgetWindow, on_delete=models.CASCADE, related_name="alerts")
    percent = models.IntegerField()
    at = models.DateTimeField(auto_now_add=True, db_default=Now())
    told_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["at"]
        constraints = [
            models.UniqueConstraint(fields=["window", "percent"], name="routing_budgetalert_key")
        ]

    def __str__(self) -> str:
        return f"{self.percent} % of {self.window_id}"


class StrayCharge(models.Model):
    """What was charged to a lease or window that was gone by then: it is in no budget."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    nusd = models.BigIntegerField()
    at = models.DateTimeField(auto_now_add=True, db_default=Now())

    class Meta:
        ordering = ["at"]

    def __str__(self) -> str:
        return f"{self.nusd} to {self.id}"
