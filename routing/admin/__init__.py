"""The policy in Django admin; each noun has a module."""

from routing.admin.budget import BudgetAdmin
from routing.admin.chain import FallbackChainAdmin
from routing.admin.endpoint import EndpointAdmin
from routing.admin.host_cost import HostCostAdmin
from routing.admin.key import ApiKeyAdmin
from routing.admin.lease import LeaseAdmin
from routing.admin.model import ModelAdmin
from routing.admin.offering import OfferingAdmin
from routing.admin.price import PriceAdmin
from routing.admin.profile import RoutingProfileAdmin
from routing.admin.savings import SavingsAdmin
from routing.admin.tenant import TenantAdmin
from routing.admin.users import GroupAdmin, UserAdmin

__all__ = [
    "ApiKeyAdmin",
    "BudgetAdmin",
    "EndpointAdmin",
    "FallbackChainAdmin",
    "GroupAdmin",
    "HostCostAdmin",
    "LeaseAdmin",
    "ModelAdmin",
    "OfferingAdmin",
    "PriceAdmin",
    "RoutingProfileAdmin",
    "SavingsAdmin",
    "TenantAdmin",
    "UserAdmin",
]
