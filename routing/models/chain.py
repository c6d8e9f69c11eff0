"""Fallback chains and their ordered members."""

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from routing.engine.catalog import TASK_TYPES, ChainSpec
from routing.models.base import Follows, PolicyQuerySet, choices
from routing.models.model import Model
from routing.policy import rules


class FallbackChain(models.Model):
    """Who stands in when a model, or whoever was chosen for a task, fails."""

    name = models.CharField(max_length=200, unique=True, validators=[Follows(rules.title)])
    for_model = models.ForeignKey(
        Model,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="chains",
        help_text="The model it stands in for. Leave empty to stand in for a whole task type.",
    )
    for_task = models.CharField(
        max_length=20,
        choices=choices(TASK_TYPES),
        blank=True,
        default="",
        help_text="The task type it stands in for, where the chosen model has no chain of its own.",
    )
    enabled = models.BooleanField(default=True)

    objects: ClassVar[PolicyQuerySet["FallbackChain"]] = PolicyQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(name="chain_name_given", condition=~Q(name="")),
            models.CheckConstraint(
                name="chain_has_one_owner",
                condition=Q(for_model=None, for_task__in=TASK_TYPES)
                | Q(for_model__isnull=False, for_task=""),
                violation_error_message="Give for_model or for_task, and not both.",
            ),
            models.UniqueConstraint(
                fields=("for_model",),
                condition=Q(enabled=True, for_model__isnull=False),
                name="chain_once_per_model",
                violation_error_message="Another enabled chain stands in for this model.",
            ),
            models.UniqueConstraint(
                fields=("for_task",),
                condition=Q(enabled=True) & ~Q(for_task=""),
                name="chain_once_per_task",
                violation_error_message="Another enabled chain stands in for this task type.",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        for problem in rules.chain_owner(self.spec(())):
            raise ValidationError({problem.path: problem.message})

    def spec(self, members: tuple[str, ...]) -> ChainSpec:
        """Return this chain as a value of the policy, with the given members."""
        return ChainSpec(
            name=self.name,
            models=members,
            for_model=self.for_model.name if self.for_model else "",
            for_task=self.for_task or None,  # type: ignore[arg-type]
            enabled=self.enabled,
        )


class ChainEntry(models.Model):
    """One member of a chain; the lowest position is asked first."""

    chain = models.ForeignKey(FallbackChain, on_delete=models.CASCADE, related_name="entries")
    # A model that a chain counts on is not deleted by accident.
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="chain_entries")
    position = models.PositiveIntegerField(default=0, db_index=True)

    objects: ClassVar[PolicyQuerySet["ChainEntry"]] = PolicyQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("position", "id")
        verbose_name = "member"
        constraints = (
            models.UniqueConstraint(
                fields=("chain", "model"),
                name="chain_entry_once",
                # Reordering saves one row after the other.
                deferrable=models.Deferrable.DEFERRED,
            ),
        )

    def __str__(self) -> str:
        return f"{self.position}: {self.model}"
