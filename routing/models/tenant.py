"""Tenants: who spends."""

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from routing.models.base import Follows, PolicyQuerySet
from routing.models.limits import Limited, limits_in_range
from routing.policy import rules

LEAST_SHARE = 0.001


class Tenant(Limited):
    """A team or a customer; its keys share its limits."""

    name = models.CharField(max_length=100, unique=True, validators=[Follows(rules.slug)])
    share = models.FloatField(
        default=1.0,
        validators=[MinValueValidator(LEAST_SHARE), MaxValueValidator(1000)],
        help_text="Its part of an endpoint that is in demand, against other tenants' parts.",
    )
    enabled = models.BooleanField(default=True, help_text="Off: none of its keys is accepted.")

    objects: ClassVar[PolicyQuerySet["Tenant"]] = PolicyQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(name="tenant_name_given", condition=~Q(name="")),
            models.CheckConstraint(
                name="tenant_share_in_range", condition=Q(share__gt=0, share__lte=1000)
            ),
            models.CheckConstraint(name="tenant_limits_in_range", condition=limits_in_range()),
        )

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        # Only what is new: whoever exists may be edited.
        if not self._state.adding:
            return
        twin = rules.lookalike(self.name, Tenant.objects.values_list("name", flat=True))
        if twin is not None:
            told = f"There is a tenant {twin} already; take a name that is not mistaken."
            raise ValidationError({"name": told})
