"""Routing profiles: how a request of one priority weighs its candidates."""

from typing import Any, ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from routing.engine.catalog import COMMITS, PRIORITIES, QUALITY_TIERS
from routing.models.base import PolicyQuerySet, choices

_WEIGHTS = ("quality", "cost", "latency", "memory", "success")


def _weight(help_text: str) -> "models.FloatField[Any, Any]":
    return models.FloatField(
        help_text=help_text, validators=[MinValueValidator(0), MaxValueValidator(100)]
    )


def _floor(default: str) -> "models.CharField[Any, Any]":
    return models.CharField(max_length=20, choices=choices(QUALITY_TIERS), default=default)


class RoutingProfile(models.Model):
    """Weights, quality floors and the deadline of one priority."""

    priority = models.CharField(max_length=10, unique=True, choices=choices(PRIORITIES))
    quality_weight = _weight("A better tier counts this much.")
    cost_weight = _weight("A lower price counts this much.")
    latency_weight = _weight("A sooner answer counts this much.")
    memory_weight = _weight("Room left on the host counts this much.")
    success_weight = _weight("Fewer recent failures count this much.")
    floor_simple = _floor("basic")
    floor_moderate = _floor("good")
    floor_complex = _floor("high")
    deadline_ms = models.PositiveIntegerField(
        "deadline (ms)",
        default=120_000,
        validators=[MinValueValidator(100), MaxValueValidator(3_600_000)],
        help_text="For the whole request, every attempt included.",
    )
    max_wait_ms = models.PositiveIntegerField(
        "longest wait (ms)",
        default=30_000,
        validators=[MaxValueValidator(3_600_000)],
        help_text="For a place at an endpoint; who would wait longer is told so at once.",
    )
    commit = models.CharField(
        "commit point",
        max_length=20,
        choices=[("first_token", "First token"), ("complete", "Complete answer")],
        default="first_token",
        help_text="A failure before it is absorbed; Complete holds the stream back for it.",
    )
    hedge_percent = models.FloatField(
        "hedges (%)",
        default=0.0,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="Most requests of which a second one is sent when the first is slow. 0: none.",
    )

    objects: ClassVar[PolicyQuerySet["RoutingProfile"]] = PolicyQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("id",)
        constraints = (
            models.CheckConstraint(
                name="profile_priority_known", condition=Q(priority__in=PRIORITIES)
            ),
            models.CheckConstraint(
                name="profile_weights_in_range",
                condition=Q(**{f"{weight}_weight__range": (0, 100) for weight in _WEIGHTS}),
            ),
            models.CheckConstraint(
                name="profile_floors_known",
                condition=Q(
                    floor_simple__in=QUALITY_TIERS,
                    floor_moderate__in=QUALITY_TIERS,
                    floor_complex__in=QUALITY_TIERS,
                ),
            ),
            models.CheckConstraint(
                name="profile_deadline_in_range", condition=Q(deadline_ms__range=(100, 3_600_000))
            ),
            models.CheckConstraint(
                name="profile_execution_in_range",
                condition=Q(
                    max_wait_ms__range=(0, 3_600_000),
                    commit__in=COMMITS,
                    hedge_percent__range=(0, 100),
                ),
            ),
        )

    def __str__(self) -> str:
        return self.priority
