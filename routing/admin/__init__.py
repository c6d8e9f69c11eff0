"""The policy in Django admin; each noun has a module."""

from routing.admin.chain import FallbackChainAdmin
from routing.admin.endpoint import EndpointAdmin
from routing.admin.model import ModelAdmin
from routing.admin.offering import OfferingAdmin
from routing.admin.profile import RoutingProfileAdmin
from routing.admin.users import GroupAdmin, UserAdmin

__all__ = [
    "EndpointAdmin",
    "FallbackChainAdmin",
    "GroupAdmin",
    "ModelAdmin",
    "OfferingAdmin",
    "RoutingProfileAdmin",
    "UserAdmin",
]
