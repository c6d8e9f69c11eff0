"""The policy's version: one row, counted by the database itself (migration 0002)."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q


class PolicyVersion(models.Model):
    """Counts committed changes of the policy's tables.

    Triggers count, once per transaction, so that no way of writing can forget to.
    """

    ONLY = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY)
    version = models.BigIntegerField(default=0)
    changed_in = models.BigIntegerField(default=0, help_text="The last transaction that counted.")
    changed_at = models.DateTimeField(null=True)
    # What was seeded once is not seeded again: an admin may have deleted it.
    seeded = ArrayField(models.CharField(max_length=220), default=list)

    class Meta:
        constraints = (models.CheckConstraint(name="policy_version_single_row", condition=Q(id=1)),)

    def __str__(self) -> str:
        return str(self.version)
