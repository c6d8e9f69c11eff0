"""What happened, in Django admin: to look at, never to change."""

from telemetry.admin.costs import CostsAdmin
from telemetry.admin.records import ModelMetricAdmin, OrchestratorRequestAdmin, SystemResourceAdmin

__all__ = ["CostsAdmin", "ModelMetricAdmin", "OrchestratorRequestAdmin", "SystemResourceAdmin"]
