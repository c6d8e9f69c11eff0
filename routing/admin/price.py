"""Prices by date."""

from typing import Any

from django.contrib import admin

from routing.admin.base import ExactForm, PolicyAdmin, dollars
from routing.admin.look import display
from routing.engine.catalog import PriceSpec
from routing.models import Price


class PriceForm(ExactForm):
    class Meta:
        model = Price
        fields = PriceSpec.__struct_fields__


@admin.register(Price)
class PriceAdmin(PolicyAdmin):
    """What models cost, each price from its moment until the model's next one."""

    form = PriceForm
    actions: Any = ()
    search_fields = ("model__name",)
    list_filter = ("model",)
    list_select_related = ("model",)
    date_hierarchy = "valid_from"
    list_display = ("model", "valid_from", "per_1k", "cached", "embedding", "each")
    autocomplete_fields = ("model",)

    @display(description="$ per 1k in / out", ordering="output_per_1k_usd")
    def per_1k(self, price: Price) -> str:
        return f"{dollars(price.input_per_1k_usd)} / {dollars(price.output_per_1k_usd)}"

    @display(description="$ per 1k cached")
    def cached(self, price: Price) -> str:
        told = price.cached_input_per_1k_usd
        return "as input" if told is None else dollars(told)

    @display(description="$ per 1k embedded")
    def embedding(self, price: Price) -> str:
        told = price.embedding_per_1k_usd
        return "as input" if told is None else dollars(told)

    @display(description="$ each request", ordering="per_request_usd")
    def each(self, price: Price) -> str:
        return dollars(price.per_request_usd)
