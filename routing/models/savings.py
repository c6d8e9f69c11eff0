"""What savings are measured against: one row."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from routing.models.base import PolicyQuerySet


class Savings(models.Model):
    """The baseline that every answer's cost is compared with."""

    ONLY = 1
    NAME = "savings"  # its key among the policy's objects

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY, editable=False)
    baseline = models.CharField(
        max_length=200,
        blank=True,
        default="",
        help_text="A model's name. Empty: the first available model that can do the task, by name.",
    )

    objects: ClassVar[PolicyQuerySet["Savings"]] = PolicyQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = verbose_name_plural = "savings baseline"
        constraints = (models.CheckConstraint(name="savings_single_row", condition=Q(id=1)),)

    def __str__(self) -> str:
        return self.NAME
