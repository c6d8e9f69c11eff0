"""Models and their capability records."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from routing.engine.catalog import QUALITY_TIERS, SPEEDS, TASK_TYPES, ModelSpec
from routing.models.base import Follows, Tracked, TrackedQuerySet, choices
from routing.policy import rules

_PRICE_HELP = "Dollars per 1,000 tokens. Empty: not known, which is never treated as free."


class Model(Tracked):
    """What a model can do, what it needs and what it costs, wherever it is offered."""

    TRACKED = ModelSpec.__struct_fields__

    name = models.CharField(
        max_length=200,
        unique=True,
        validators=[Follows(rules.model_name)],
        help_text="The name callers and chains use, e.g. llama3.2:3b.",
    )
    capabilities = ArrayField(
        models.CharField(max_length=20, choices=choices(TASK_TYPES)),
        validators=[Follows(rules.capabilities)],
        help_text="The tasks it may be chosen for.",
    )
    quality_tier = models.CharField(max_length=20, choices=choices(QUALITY_TIERS))
    speed = models.CharField(max_length=10, choices=choices(SPEEDS), default="medium")
    ram_required_gb = models.FloatField(
        "RAM required (GB)",
        default=0.0,
        validators=[MinValueValidator(0), MaxValueValidator(100_000)],
        help_text="Memory it needs on its host once loaded; 0 where that is not ours to watch.",
    )
    kv_mb_per_1k_tokens = models.FloatField(
        "KV cache (MB per 1k tokens)",
        default=0.0,
        validators=[MinValueValidator(0), MaxValueValidator(1_000_000)],
        help_text="What 1,000 tokens of context beyond 4,096 add to the RAM required.",
    )
    context_length = models.PositiveIntegerField(
        default=4096,
        validators=[MinValueValidator(1), MaxValueValidator(100_000_000)],
        help_text="Tokens of prompt and answer together.",
    )
    cost_per_1k_input_usd = models.DecimalField(
        "cost per 1k input tokens ($)",
        max_digits=18,
        decimal_places=rules.PRICE_DECIMALS,
        null=True,
        blank=True,
        validators=[Follows(rules.price)],
        help_text=_PRICE_HELP,
    )
    cost_per_1k_output_usd = models.DecimalField(
        "cost per 1k output tokens ($)",
        max_digits=18,
        decimal_places=rules.PRICE_DECIMALS,
        null=True,
        blank=True,
        validators=[Follows(rules.price)],
        help_text=_PRICE_HELP,
    )
    best_for = ArrayField(
        models.CharField(max_length=rules.LONGEST_BEST_FOR),
        default=list,
        blank=True,
        validators=[Follows(rules.best_for)],
        help_text="Comma-separated. A task type named here is preferred a little for that task.",
    )
    accepts_prefill = models.BooleanField(
        "continues answers",
        default=False,
        help_text="Goes on from an answer that was begun for it, so a broken one can be finished.",
    )
    enabled = models.BooleanField(default=True)

    objects: ClassVar[TrackedQuerySet["Model"]] = TrackedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                name="model_name_given", condition=~Q(name=""), violation_error_message="Name it."
            ),
            models.CheckConstraint(
                name="model_capabilities_known",
                condition=Q(capabilities__len__gte=1)
                & Q(capabilities__contained_by=list(TASK_TYPES)),
            ),
            models.CheckConstraint(
                name="model_tier_known", condition=Q(quality_tier__in=QUALITY_TIERS)
            ),
            models.CheckConstraint(name="model_speed_known", condition=Q(speed__in=SPEEDS)),
            models.CheckConstraint(
                name="model_ram_not_negative", condition=Q(ram_required_gb__gte=0)
            ),
            models.CheckConstraint(
                name="model_kv_not_negative", condition=Q(kv_mb_per_1k_tokens__gte=0)
            ),
            models.CheckConstraint(
                name="model_context_positive", condition=Q(context_length__gte=1)
            ),
            models.CheckConstraint(
                name="model_prices_not_negative",
                condition=(Q(cost_per_1k_input_usd=None) | Q(cost_per_1k_input_usd__gte=0))
                & (Q(cost_per_1k_output_usd=None) | Q(cost_per_1k_output_usd__gte=0)),
            ),
        )

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse a second spelling of a model, and taking from a chain what it needs."""
        plain = rules.plain_name(self.name)
        twins = Model.objects.filter(name__in=(plain, f"{plain}:latest")).exclude(name=self.name)
        if twin := twins.exclude(pk=self.pk).first():
            raise ValidationError({"name": f"{twin.name} is the same model; edit that one."})
        self._check_chains()

    def _check_chains(self) -> None:
        if self._state.adding or not self.capabilities:
            return
        for task, chain in self.chain_entries.filter(chain__for_task__gt="").values_list(
            "chain__for_task", "chain__name"
        ):
            if task not in self.capabilities:
                message = f"The chain {chain!r} needs {task} of it; take it out there first."
                raise ValidationError({"capabilities": message})
