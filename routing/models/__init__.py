"""The policy's tables; each noun has a module."""

from routing.models.base import Origin
from routing.models.budget import Budget
from routing.models.chain import ChainEntry, FallbackChain
from routing.models.endpoint import Endpoint
from routing.models.host_cost import HostCost
from routing.models.key import ApiKey
from routing.models.model import Model
from routing.models.offering import Offering
from routing.models.price import Price
from routing.models.profile import RoutingProfile
from routing.models.savings import Savings
from routing.models.tenant import Tenant
from routing.models.treasury import BudgetAlert, BudgetSpend, BudgetWindow, Lease, StrayCharge
from routing.models.version import PolicyVersion

__all__ = [
    "ApiKey",
    "Budget",
    "BudgetAlert",
    "BudgetSpend",
    "BudgetWindow",
    "ChainEntry",
    "Endpoint",
    "FallbackChain",
    "HostCost",
    "Lease",
    "Model",
    "Offering",
    "Origin",
    "PolicyVersion",
    "Price",
    "RoutingProfile",
    "Savings",
    "StrayCharge",
    "Tenant",
]
