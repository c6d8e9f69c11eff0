"""Budgets: how much may be spent on what in which time."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from routing.engine.catalog import BUDGET_PERIODS, BUDGET_SCOPES, WHEN_EXHAUSTED, BudgetSpec
from routing.models.base import Follows, PolicyQuerySet, choices
from routing.policy import rules


def usual_thresholds() -> list[int]:
    return [50, 80, 100]


class Budget(models.Model):
    """A limit in dollars for one scope and period; what is spent of it is kept elsewhere."""

    name = models.CharField(max_length=200, unique=True, validators=[Follows(rules.title)])
    scope = models.CharField(max_length=10, choices=choices(BUDGET_SCOPES))
    subject = models.CharField(
        max_length=200,
        blank=True,
        default="",
        validators=[Follows(rules.subject)],
        help_text="The tenant, key, task type, model or tag it holds for; empty for all.",
    )
    period = models.CharField(max_length=10, choices=choices(BUDGET_PERIODS), default="month")
    time_zone = models.CharField(
        max_length=60,
        default="UTC",
        validators=[Follows(rules.time_zone)],
        help_text="Where its days begin, e.g. Europe/Zurich.",
    )
    limit_usd = models.DecimalField(
        "limit ($)",
        max_digits=19,
        decimal_places=rules.PRICE_DECIMALS,
        validators=[Follows(rules.amount)],
    )
    hard = models.BooleanField(
        default=True, help_text="Never exceeded, by not a nano-dollar. Off: only told of."
    )
    thresholds = ArrayField(
        models.PositiveSmallIntegerField(
            validators=[MinValueValidator(1), MaxValueValidator(1000)]
        ),
        default=usual_thresholds,
        blank=True,
        validators=[Follows(rules.thresholds)],
        help_text="Percent of the limit at which cost.threshold_exceeded is told, once a period.",
    )
    when_exhausted = models.CharField(
        max_length=20,
        choices=[("refuse", "Refuse"), ("prefer_free", "Prefer free models"), ("warn", "Warn")],
        default="refuse",
    )
    enabled = models.BooleanField(default=True)

    objects: ClassVar[PolicyQuerySet["Budget"]] = PolicyQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(name="budget_name_given", condition=~Q(name="")),
            models.CheckConstraint(
                name="budget_words_known",
                condition=Q(
                    scope__in=BUDGET_SCOPES,
                    period__in=BUDGET_PERIODS,
                    when_exhausted__in=WHEN_EXHAUSTED,
                ),
            ),
            models.CheckConstraint(
                name="budget_has_its_subject",
                condition=Q(scope="all", subject="") | (~Q(scope="all") & ~Q(subject="")),
                violation_error_message="Name the subject, except for the scope `all`.",
            ),
            models.CheckConstraint(name="budget_not_negative", condition=Q(limit_usd__gte=0)),
        )

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        for problem in rules.budget_subject(self.scope, self.subject):
            raise ValidationError({problem.path: problem.message})
        for problem in rules.budget_action(hard=self.hard, when_exhausted=self.when_exhausted):
            raise ValidationError({problem.path: problem.message})

    def spec(self) -> BudgetSpec:
        """Return this budget as a value of the policy."""
        fields = {name: getattr(self, name) for name in BudgetSpec.__struct_fields__}
        return BudgetSpec(**{**fields, "thresholds": tuple(self.thresholds)})
