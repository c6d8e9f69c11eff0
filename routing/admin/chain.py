"""Fallback chains, with members to drag into order."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from routing.admin.base import PolicyAdmin
from routing.admin.look import PlainFormSet, PlainInline, display
from routing.models import ChainEntry, FallbackChain
from routing.policy import rules
from routing.policy.export import document_from_orm
from routing.policy.tables import Tables


class MembersFormSet(PlainFormSet):
    """Holds the members against the rules of chains, each error beside its member."""

    def clean(self) -> None:
        super().clean()
        if any(self.errors) or not self.instance.name:
            return
        kept = [form for form in self.forms if form.cleaned_data and not self._is_deleted(form)]
        kept = self._in_order(kept)
        names = tuple(form.cleaned_data["model"].name for form in kept)
        models = Tables.of(document_from_orm()).models
        for problem in rules.chain_members(self.instance.spec(names), models):
            index = problem.path.removeprefix("models").strip("[]")
            if index:
                kept[int(index)].add_error("model", problem.message)
            else:
                self._non_form_errors.append(problem.message)  # type: ignore[attr-defined]

    def _in_order(self, kept: list[Any]) -> list[Any]:
        """Return the forms as they stood on the page.

        Dragging numbers every row; a row that was only added has a number that another one has.
        """
        positions = [form.instance.position for form in kept]
        if len(set(positions)) < len(positions):
            last = max((form.instance.position for form in kept if form.instance.pk), default=-1)
            for form in kept:
                if not form.instance.pk:
                    last += 1
                    form.instance.position = last
        return sorted(kept, key=lambda form: int(form.instance.position))

    def _is_deleted(self, form: Any) -> bool:
        return self.can_delete and self._should_delete_form(form)  # type: ignore[attr-defined]


class MembersInline(PlainInline):
    """Members, asked from top to bottom."""

    model = ChainEntry
    formset = MembersFormSet
    fields = ("model", "position")
    autocomplete_fields = ("model",)
    ordering_field = "position"
    hide_ordering_field = True
    extra = 0
    hide_title = True
    verbose_name_plural = "Members, asked from top to bottom"


@admin.register(FallbackChain)
class FallbackChainAdmin(PolicyAdmin):
    """Who stands in for whom."""

    inlines = (MembersInline,)
    list_display = ("name", "stands_in_for", "members", "enabled")
    list_filter = ("for_task", "enabled")
    list_select_related = ("for_model",)
    search_fields = ("name", "for_model__name", "entries__model__name")
    autocomplete_fields = ("for_model",)
    fields = ("name", "for_model", "for_task", "enabled")

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        return super().get_queryset(request).prefetch_related("entries__model")

    @display(description="Stands in for")
    def stands_in_for(self, chain: FallbackChain) -> str:
        return chain.for_model.name if chain.for_model else f"any {chain.for_task} request"

    @display(description="Members in order")
    def members(self, chain: FallbackChain) -> str:
        return " → ".join(entry.model.name for entry in chain.entries.all())

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        tables = Tables.of(document_from_orm())
        saved = tables.chains[form.instance.name]
        for problem in rules.unreachable_members(saved, tables.models, tables.offered()):
            self.message_user(request, problem.message, messages.WARNING)
