"""What every page of what happened is made of: it lists and shows, and changes nothing."""

from typing import Any, ClassVar

from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin  # type: ignore[import-untyped]

# Counting millions of rows takes longer than reading the page they are counted for.
COUNT_UP_TO = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than `COUNT_UP_TO`; older rows are found by searching and filtering."""

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        return rows[:COUNT_UP_TO].count() if isinstance(rows, QuerySet) else len(rows)


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Lists and shows."""

    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_display_links: ClassVar[Any]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
