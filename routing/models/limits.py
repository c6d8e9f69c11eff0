"""What tenants and keys have in common: limits, and the models they may use."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from routing.engine.catalog import LimitsSpec
from routing.models.base import Follows
from routing.policy import rules

MOST = 10**12
LIMITS = LimitsSpec.__struct_fields__


def _limit(help_text: str) -> "models.PositiveBigIntegerField[Any, Any]":
    return models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MOST)],
        help_text=f"{help_text} Empty: no limit.",
    )


def limits_in_range() -> Q:
    """Return the condition that every limit is absent or at least 1."""
    condition = Q()
    for name in LIMITS:
        condition &= Q(**{name: None}) | Q(**{f"{name}__range": (1, MOST)})
    return condition


class Limited(models.Model):
    """Whoever is limited, over all workers and nodes."""

    # Names, not references: a list that deleting a model emptied would allow every model.
    allowed_models = ArrayField(
        models.CharField(max_length=rules.LONGEST_NAME),
        default=list,
        blank=True,
        validators=[Follows(rules.allowed_models)],
    )
    requests_per_minute = _limit("Most requests in a minute.")
    requests_per_day = _limit("Most requests in a day.")
    tokens_per_minute = _limit("Most tokens, of prompts and answers, in a minute.")
    tokens_per_day = _limit("Most tokens, of prompts and answers, in a day.")
    concurrent_streams = _limit("Most streamed answers at once.")

    class Meta:
        abstract = True
