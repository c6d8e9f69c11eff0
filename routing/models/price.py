"""Prices, each from a moment on."""

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from routing.models.base import Follows, PolicyQuerySet, follow
from routing.models.model import Model
from routing.policy import rules
from routing.policy.tables import moment


def _price(label: str, help_text: str = "", **more: Any) -> "models.DecimalField[Any, Any]":
    return models.DecimalField(
        label,
        max_digits=18,
        decimal_places=rules.PRICE_DECIMALS,
        validators=[Follows(rules.price)],
        help_text=help_text,
        **more,
    )


class Price(models.Model):
    """What a model costs from a moment on, until a later price of it takes over."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="prices")
    valid_from = models.DateTimeField(help_text="Before the first one the model's own prices hold.")
    input_per_1k_usd = _price("1k input tokens ($)")
    output_per_1k_usd = _price("1k output tokens ($)")
    cached_input_per_1k_usd = _price(
        "1k cached input tokens ($)", "Empty: as input tokens.", null=True, blank=True
    )
    embedding_per_1k_usd = _price(
        "1k embedded tokens ($)", "Empty: as input tokens.", null=True, blank=True
    )
    per_request_usd = _price("each request ($)", default=Decimal(0))

    objects: ClassVar[PolicyQuerySet["Price"]] = PolicyQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("model__name", "valid_from")
        constraints = (
            models.UniqueConstraint(
                fields=("model", "valid_from"),
                name="price_once",
                violation_error_message="This model has a price from that moment on; edit that.",
            ),
            models.CheckConstraint(
                name="prices_not_negative",
                condition=Q(
                    input_per_1k_usd__gte=0, output_per_1k_usd__gte=0, per_request_usd__gte=0
                )
                & (Q(cached_input_per_1k_usd=None) | Q(cached_input_per_1k_usd__gte=0))
                & (Q(embedding_per_1k_usd=None) | Q(embedding_per_1k_usd__gte=0)),
            ),
        )

    def __str__(self) -> str:
        since: datetime = self.valid_from
        return f"{self.model}@{moment(since)}"

    def clean(self) -> None:
        follow(rules.zoned, self, "valid_from")
