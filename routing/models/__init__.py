"""The policy's tables; each noun has a module."""

from routing.models.base import Origin
from routing.models.chain import ChainEntry, FallbackChain
from routing.models.endpoint import Endpoint
from routing.models.model import Model
from routing.models.offering import Offering
from routing.models.profile import RoutingProfile
from routing.models.version import PolicyVersion

__all__ = [
    "ChainEntry",
    "Endpoint",
    "FallbackChain",
    "Model",
    "Offering",
    "Origin",
    "PolicyVersion",
    "RoutingProfile",
]
