"""API keys, as far as they are kept: a prefix to recognise them by and a keyed hash."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from routing.models.base import Follows, PolicyQuerySet, follow
from routing.models.limits import Limited, limits_in_range
from routing.models.tenant import Tenant
from routing.policy import rules


class ApiKey(Limited):
    """A tenant's key. The token itself is shown once, when it is made, and kept nowhere."""

    name = models.CharField(max_length=100, unique=True, validators=[Follows(rules.slug)])
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="keys")
    prefix = models.CharField(
        max_length=40, editable=False, help_text="What the token begins with."
    )
    digest = models.CharField(
        max_length=64, editable=False, help_text="HMAC-SHA256 of the whole token, in hex."
    )
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="From then on it is refused. Empty: it does not expire."
    )
    enabled = models.BooleanField(default=True, help_text="Off: revoked.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[PolicyQuerySet["ApiKey"]] = PolicyQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("name",)
        verbose_name = "API key"
        constraints = (
            models.CheckConstraint(name="apikey_name_given", condition=~Q(name="")),
            models.CheckConstraint(
                name="apikey_digest_is_one", condition=Q(digest__regex=r"^[0-9a-f]{64}$")
            ),
            # A policy file may swap two keys' digests, one row after the other.
            models.UniqueConstraint(
                fields=("digest",),
                name="apikey_digest_once",
                deferrable=models.Deferrable.DEFERRED,
            ),
            models.CheckConstraint(name="apikey_limits_in_range", condition=limits_in_range()),
        )

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        follow(rules.zoned, self, "expires_at")
