"""Makes and revokes API keys. The token leaves here once, and is kept nowhere."""

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction

from routing.models import ApiKey, Tenant
from routing.policy.tokens import Minted, digest_key, mint


def new_token(tenant: str) -> Minted:
    """Return a token for a tenant, hashed under this installation's secret."""
    return mint(tenant, digest_key(settings.SECRET_KEY))


@transaction.atomic
def create_tenant(*, name: str, allowed_models: Sequence[str] = (), actor: str) -> Tenant:
    """Store a tenant; raises ValidationError naming the field."""
    tenant = Tenant(name=name, allowed_models=list(allowed_models))
    tenant.full_clean()
    tenant.save()
    _note(tenant, ADDITION, "Added on the command line.", actor)
    return tenant


@transaction.atomic
def create_key(
    *,
    name: str,
    tenant: Tenant,
    expires_at: datetime | None = None,
    allowed_models: Sequence[str] = (),
    actor: str,
) -> tuple[ApiKey, str]:
    """Store a key and return it with its token; raises ValidationError naming the field."""
    minted = new_token(tenant.name)
    row = ApiKey(
        name=name,
        tenant=tenant,
        prefix=minted.prefix,
        digest=minted.digest,
        expires_at=expires_at,
        allowed_models=list(allowed_models),
    )
    row.full_clean()
    row.save()
    _note(row, ADDITION, "Made on the command line.", actor)
    return row, minted.token


@transaction.atomic
def revoke_key(row: ApiKey, *, actor: str) -> bool:
    """Revoke a key; workers refuse it within a second. False if it was revoked before."""
    # Compare-and-set: what another operator changed meanwhile stays.
    revoked = ApiKey.objects.filter(pk=row.pk, enabled=True).update(enabled=False)
    if revoked:
        _note(row, CHANGE, "Revoked on the command line.", actor)
    return bool(revoked)


def _note(row: models.Model, flag: int, message: str, actor: str) -> None:
    """Tell the admin's history, where `actor` is a user's name."""
    user = get_user_model()._default_manager.filter(username=actor).first()
    if user is not None:
        LogEntry.objects.create(
            user=user,
            content_type=ContentType.objects.get_for_model(row),
            object_id=str(row.pk),
            object_repr=str(row)[:200],
            action_flag=flag,
            change_message=message,
        )
