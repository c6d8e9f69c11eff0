"""django-unfold behind types: it ships none, and Django's classes take parameters in stubs only."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from unfold import decorators, widgets  # type: ignore[import-untyped]

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    from django import forms
    from django.contrib import admin

    PlainAdmin = admin.ModelAdmin[Any]
    PlainInline = admin.TabularInline[Any, Any]
    PlainForm = forms.ModelForm[Any]
    PlainFormSet = forms.BaseInlineFormSet[Any, Any, Any]
else:
    from django.forms import BaseInlineFormSet as PlainFormSet
    from django.forms import ModelForm as PlainForm
    from unfold.admin import ModelAdmin as PlainAdmin
    from unfold.admin import TabularInline as PlainInline

CheckBoxes = widgets.UnfoldAdminCheckboxSelectMultipleWidget
TextInput = widgets.UnfoldAdminTextInputWidget


def display(description: str, **options: Any) -> Callable[[F], F]:
    """Mark a method as a column; `label` maps its texts to colours."""

    def mark(function: F) -> F:
        marked: F = decorators.display(function, description=description, **options)
        return marked

    return mark


def action(description: str, **options: Any) -> Callable[[F], F]:
    """Mark a method as a button of a row or of an object's page."""

    def mark(function: F) -> F:
        marked: F = decorators.action(function, description=description, **options)
        return marked

    return mark


__all__ = [
    "CheckBoxes",
    "PlainAdmin",
    "PlainForm",
    "PlainFormSet",
    "PlainInline",
    "TextInput",
    "action",
    "display",
]
