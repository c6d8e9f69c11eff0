"""Offerings: this model at this endpoint."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from routing.models.base import Follows, Tracked, TrackedQuerySet
from routing.models.endpoint import Endpoint
from routing.models.model import Model
from routing.policy import rules


class Offering(Tracked):
    """A model at an endpoint, and how it is loaded there."""

    TRACKED = ("upstream_model", "num_ctx", "keep_alive", "enabled")

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="offerings")
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="offerings")
    upstream_model = models.CharField(
        max_length=200,
        blank=True,
        default="",
        validators=[Follows(rules.upstream_model)],
        help_text="The endpoint's own name for it; empty: the same.",
    )
    num_ctx = models.PositiveIntegerField(
        "context to load (num_ctx)",
        null=True,
        blank=True,
        validators=[Follows(rules.num_ctx)],
        help_text="Pinned, so that routing never causes a reload. Empty: the endpoint decides.",
    )
    keep_alive = models.CharField(
        max_length=30,
        blank=True,
        default="",
        validators=[Follows(rules.keep_alive)],
        help_text="How long it stays loaded: 5m, 1h30m, 300 (seconds), -1 (for ever).",
    )
    enabled = models.BooleanField(default=True)

    objects: ClassVar[TrackedQuerySet["Offering"]] = TrackedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("model__name", "endpoint__name")
        constraints = (
            models.UniqueConstraint(
                fields=("model", "endpoint"),
                name="offering_once",
                violation_error_message="This endpoint offers the model already; edit that one.",
            ),
            models.CheckConstraint(
                name="offering_num_ctx_positive", condition=Q(num_ctx=None) | Q(num_ctx__gte=1)
            ),
        )

    def __str__(self) -> str:
        return f"{self.model}@{self.endpoint}"
