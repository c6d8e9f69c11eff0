"""Endpoints: the servers that answer for models."""

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from routing.engine.catalog import PROVIDERS, EndpointSpec
from routing.models.base import Follows, Tracked, TrackedQuerySet
from routing.policy import rules


class Endpoint(Tracked):
    """An Ollama, or any server that speaks OpenAI's protocol."""

    TRACKED = EndpointSpec.__struct_fields__

    name = models.CharField(max_length=100, unique=True, validators=[Follows(rules.endpoint_name)])
    provider = models.CharField(
        max_length=10, choices=[("ollama", "Ollama"), ("openai", "OpenAI-compatible")]
    )
    base_url = models.CharField(
        "base URL",
        max_length=500,
        validators=[Follows(rules.base_url)],
        help_text="E.g. http://127.0.0.1:11434, or https://api.example.com/v1.",
    )
    api_key_ref = models.CharField(
        "API key reference",
        max_length=500,
        blank=True,
        default="",
        validators=[Follows(rules.api_key_ref)],
        help_text="Where the key is, never the key: env:NAME or file:/absolute/path.",
    )
    host = models.CharField(
        max_length=100,
        blank=True,
        default="",
        validators=[Follows(rules.place)],
        help_text="Whose memory its models use: `local` is this machine; empty: not ours to watch.",
    )
    region = models.CharField(
        max_length=100, blank=True, default="", validators=[Follows(rules.place)]
    )
    max_concurrency = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(10_000)],
        help_text="Most calls at once, from all workers together. Empty: as many as it bears.",
    )
    max_queue = models.PositiveIntegerField(
        default=4096,
        validators=[MaxValueValidator(100_000)],
        help_text="Most requests that may wait for it in one worker; the rest go elsewhere.",
    )
    min_residency_s = models.FloatField(
        "minimum residency (s)",
        default=10.0,
        validators=[MinValueValidator(0), MaxValueValidator(86_400)],
        help_text="A model loaded more recently than this is not displaced by another one.",
    )
    enabled = models.BooleanField(default=True)
    simulated = models.BooleanField(default=False, help_text="Its answers are not a model's.")

    objects: ClassVar[TrackedQuerySet["Endpoint"]] = TrackedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(name="endpoint_name_given", condition=~Q(name="")),
            models.CheckConstraint(
                name="endpoint_provider_known", condition=Q(provider__in=PROVIDERS)
            ),
            models.CheckConstraint(
                name="endpoint_url_http", condition=Q(base_url__regex=r"^https?://[^/@?#]+")
            ),
            models.CheckConstraint(
                name="endpoint_key_is_reference",
                condition=Q(api_key_ref="") | Q(api_key_ref__regex=r"^(env:[A-Za-z_]|file:/)"),
                violation_error_message="Give a reference: env:NAME or file:/absolute/path.",
            ),
            models.CheckConstraint(
                name="endpoint_admission_in_range",
                condition=(Q(max_concurrency=None) | Q(max_concurrency__range=(1, 10_000)))
                & Q(max_queue__range=(0, 100_000), min_residency_s__range=(0, 86_400)),
            ),
        )

    def __str__(self) -> str:
        return self.name

    def spec(self) -> EndpointSpec:
        """Return this endpoint as a value of the policy."""
        return EndpointSpec(**{name: getattr(self, name) for name in self.TRACKED})

    def clean(self) -> None:
        self.base_url = self.base_url.rstrip("/")
