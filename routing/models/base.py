"""What the tables of the policy have in common: rules as validators, and who edited what."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.expressions import F, Func, Value
from django.utils.deconstruct import deconstructible

T = TypeVar("T", bound=models.Model)


class Origin(models.TextChoices):
    """Who made an object. Machines fill in facts; what people made is left as it is."""

    ADMIN = "admin", "Admin"
    FILE = "file", "Policy file"
    SEED = "seed", "Seed"
    DISCOVERY = "discovery", "Discovery"

    @property
    def is_machine(self) -> bool:
        return self in (Origin.SEED, Origin.DISCOVERY)


@deconstructible
class Follows:
    """A validator from a rule of `routing.policy.rules`."""

    def __init__(self, rule: Callable[[Any], None]) -> None:
        self.rule = rule

    def __call__(self, value: Any) -> None:
        try:
            self.rule(value)
        except ValueError as exc:
            raise ValidationError(str(exc)) from exc

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Follows) and other.rule is self.rule

    def __hash__(self) -> int:
        return hash(self.rule)


def follow(rule: Callable[[Any], None], row: models.Model, field: str) -> None:
    """Hold a field against a rule; raises ValidationError naming the field."""
    try:
        rule(getattr(row, field))
    except ValueError as exc:
        raise ValidationError({field: str(exc)}) from exc


def choices(values: Iterable[str]) -> list[tuple[str, str]]:
    return [(value, value.capitalize()) for value in values]


class PolicyQuerySet(models.QuerySet[T]):
    """Bulk writes send no signals; these reach the workers all the same."""

    def update(self, **values: Any) -> int:
        changed = super().update(**values)
        self._publish()
        return changed

    def bulk_create(self, *args: Any, **kwargs: Any) -> list[T]:
        created = super().bulk_create(*args, **kwargs)
        self._publish()
        return created

    def _publish(self) -> None:
        # Imported here: publishing reads these tables.
        from routing.policy import publish

        publish.after_commit(self.db)


def _names() -> "ArrayField[Any, Any]":
    return ArrayField(models.CharField(max_length=40))


def _with(names: list[str]) -> Func:
    """Return an expression for `edited_fields` and these names, each once."""
    return Func(
        F("edited_fields"),
        Value(names, output_field=_names()),
        template="ARRAY(SELECT DISTINCT unnest(array_cat(%(expressions)s)) ORDER BY 1)",
        output_field=_names(),
    )


class TrackedQuerySet(PolicyQuerySet[T]):
    """Also remembers that a person's bulk update edited its fields."""

    def update(self, **values: Any) -> int:
        edited = sorted(values.keys() & set(self.model.TRACKED))  # type: ignore[attr-defined]
        if edited and "edited_fields" not in values:
            values["edited_fields"] = _with(edited)
        return super().update(**values)


class Tracked(models.Model):
    """An object that machines may fill in, except where a person edited it."""

    TRACKED: ClassVar[tuple[str, ...]]

    origin = models.CharField(
        max_length=10, choices=Origin.choices, default=Origin.ADMIN, editable=False
    )
    edited_fields = ArrayField(
        models.CharField(max_length=40),
        default=list,
        blank=True,
        editable=False,
        help_text="What a person changed; discovery leaves it alone.",
    )

    class Meta:
        abstract = True

    def save(self, *args: Any, by: Origin = Origin.ADMIN, **kwargs: Any) -> None:
        """Save, and unless a machine does, remember which fields differ from what was stored."""
        if self._state.adding:
            self.origin = by
        elif not by.is_machine:
            edited = self._changed_fields() - set(self.edited_fields)
            if edited:
                self.edited_fields = sorted({*self.edited_fields, *edited})
                if kwargs.get("update_fields") is not None:
                    kwargs["update_fields"] = {*kwargs["update_fields"], "edited_fields"}
        super().save(*args, **kwargs)

    def machine_may_change(self, field: str) -> bool:
        """Return True if neither the object nor this field is a person's work."""
        return Origin(self.origin).is_machine and field not in self.edited_fields

    def _changed_fields(self) -> set[str]:
        stored = type(self)._base_manager.filter(pk=self.pk).values(*self.TRACKED).first()
        if stored is None:
            return set()
        return {name for name, value in stored.items() if value != getattr(self, name)}
