"""The policy's tables; each noun has a module."""

from routing.models.base import Origin
from routing.models.chain import ChainEntry, FallbackChain
from routing.models.endpoint import Endpoint
from routing.models.model import Model
from routing.models.offering import Offering
from routing.models.profile import RoutingProfile
from routing.models.treasury import BudgetAlert, BudgetSpend, BudgetWindow, Lease
from routing.models.version import PolicyVersion

__all__ = [
    "BudgetAlert",
    "BudgetSpend",
    "BudgetWindow",
    "ChainEntry",
    "Endpoint",
    "FallbackChain",
    "Lease",
    "Model",
    "Offering",
    "Origin",
    "PolicyVersion",
    "RoutingProfile",
]
