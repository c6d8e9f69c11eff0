"""What hosts of ours cost: energy and depreciation."""

from decimal import Decimal
from typing import Any, ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from routing.models.base import Follows, PolicyQuerySet
from routing.policy import rules


def _amount(label: str, **more: Any) -> "models.DecimalField[Any, Any]":
    return models.DecimalField(
        label,
        max_digits=19,
        decimal_places=rules.PRICE_DECIMALS,
        validators=[Follows(rules.amount)],
        **more,
    )


class HostCost(models.Model):
    """An hour of a host's work, turned into a price for the models it answers with."""

    host = models.CharField(
        max_length=100,
        unique=True,
        validators=[Follows(rules.slug)],
        help_text="As endpoints name it; `local` is this machine.",
    )
    watts = models.FloatField(
        validators=[MinValueValidator(0), MaxValueValidator(1_000_000)],
        help_text="What it draws at work.",
    )
    energy_per_kwh_usd = _amount("energy per kWh ($)")
    hardware_usd = _amount(
        "hardware ($)", default=Decimal(0), help_text="What it was bought for; 0: written off."
    )
    lifetime_h = models.FloatField(
        "lifetime (h)",
        default=26_280.0,
        validators=[MinValueValidator(1), MaxValueValidator(1_000_000)],
        help_text="Hours of work after which it is written off; three years by default.",
    )

    objects: ClassVar[PolicyQuerySet["HostCost"]] = PolicyQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("host",)
        constraints = (
            models.CheckConstraint(name="host_cost_host_given", condition=~Q(host="")),
            models.CheckConstraint(
                name="host_cost_in_range",
                condition=Q(
                    watts__gte=0, energy_per_kwh_usd__gte=0, hardware_usd__gte=0, lifetime_h__gt=0
                ),
            ),
        )

    def __str__(self) -> str:
        return self.host
