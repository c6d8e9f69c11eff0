"""Whose figures a caller may see: with an API key those of its tenant, else all."""

from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request


def tenant_for(request: Request, asked: str | None = None) -> str | None:
    """Return the tenant to narrow an answer to; None: nobody need be left out.

    Raises PermissionDenied, answered 403, where somebody else's figures are asked for.
    """
    own: str = getattr(getattr(request._request, "caller", None), "tenant", "")
    if not own:
        return asked
    if asked not in (None, own):
        raise PermissionDenied(f"This API key belongs to tenant {own}; ask for its figures only.")
    return own
