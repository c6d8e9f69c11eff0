"""What hosts of ours cost."""

from typing import Any

from django.contrib import admin

from routing.admin.base import ExactForm, PolicyAdmin, dollars
from routing.admin.look import display
from routing.engine.catalog import HostCostSpec
from routing.models import HostCost


class HostCostForm(ExactForm):
    class Meta:
        model = HostCost
        fields = HostCostSpec.__struct_fields__


@admin.register(HostCost)
class HostCostAdmin(PolicyAdmin):
    """Energy and depreciation of an hour's work."""

    form = HostCostForm
    actions: Any = ()
    search_fields = ("host",)
    list_display = ("host", "watts", "energy", "hardware", "lifetime_h")

    @display(description="$ per kWh", ordering="energy_per_kwh_usd")
    def energy(self, cost: HostCost) -> str:
        return dollars(cost.energy_per_kwh_usd)

    @display(description="Hardware", ordering="hardware_usd")
    def hardware(self, cost: HostCost) -> str:
        return dollars(cost.hardware_usd)
