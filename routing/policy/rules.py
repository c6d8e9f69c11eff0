"""What a policy must not say. Pure: the admin's forms, the policy file and discovery share these.

A field rule takes a value and raises ValueError with one sentence: what is wrong and the remedy.
A chain rule sees the models too and returns every problem it finds.
"""

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from routing.engine.catalog import (
    LONGEST_TAG,
    TAG_FORM,
    TAG_PATTERN,
    TASK_TYPES,
    BudgetSpec,
    ChainSpec,
    EndpointSpec,
    HostCostSpec,
    KeySpec,
    ModelSpec,
    OfferingSpec,
    PriceSpec,
    SavingsSpec,
    TenantSpec,
)

PRICE_DECIMALS = 9  # whole nano-dollars per thousand tokens
HIGHEST_PRICE_USD = 1_000_000
HIGHEST_AMOUNT_USD = 1_000_000_000  # in nano-dollars it still fits 64 bits
MOST_THRESHOLDS = 20
MOST_BEST_FOR = 50
LONGEST_BEST_FOR = 60
LONGEST_NAME = 200
LONGEST_CONTEXT = 100_000_000

_WORD = re.compile(r"\S+")
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KEY_REF = re.compile(r"(?=.{1,500}\Z)(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+)")
# Go's time.ParseDuration, or plain seconds; negative means for ever.
_KEEP_ALIVE = re.compile(r"(?=.{1,30}\Z)(-?[0-9]+|-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)")

Rule = Callable[[Any], None]


class Problem(msgspec.Struct, frozen=True):
    """Something wrong: `path` names the field, e.g. `name` or `models[3].quality_tier`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def model_name(value: str) -> None:
    if not _is_word(value):
        raise ValueError("A model's name has no blanks; write it as the endpoint does.")
    if value == "auto" or value.startswith("auto:"):
        raise ValueError("`auto` asks for a selection, so no model may be called that.")


def upstream_model(value: str) -> None:
    if value and (not _is_word(value) or len(value) > LONGEST_NAME):
        raise ValueError(
            f"A model's name has no blanks and at most {LONGEST_NAME} characters; leave it empty to"
            " use the model's own."
        )


def _is_word(value: str) -> bool:
    return value.isprintable() and bool(_WORD.fullmatch(value))


def slug(value: str) -> None:
    if not _SLUG.fullmatch(value):
        raise ValueError("Use letters, digits, `.`, `_` and `-`, at most 100, a letter first.")


endpoint_name = slug  # as migration 0001 knows it


def place(value: str) -> None:
    """A host or a region: empty, or a slug."""
    if value and not _SLUG.fullmatch(value):
        raise ValueError("Use letters, digits, `.`, `_` and `-`, at most 100, or leave it empty.")


def title(value: str) -> None:
    if value != value.strip() or not value.isprintable() or not value:
        raise ValueError("Use printable characters on one line, no blank first or last.")


def base_url(value: str) -> None:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as exc:
        raise ValueError(f"This is not a URL: {exc}.") from exc
    if parts.scheme not in ("http", "https"):
        raise ValueError("Start it with http:// or https://.")
    if "@" in parts.netloc:
        raise ValueError("Take the user and password out; name the key in api_key_ref instead.")
    if not parts.hostname or not _is_word(value):
        raise ValueError("It names no host; write it like http://127.0.0.1:11434.")
    if parts.query or parts.fragment or "?" in value or "#" in value:
        raise ValueError("Take the query and fragment out; only scheme, host, port and path fit.")
    _refuse_reserved_address(parts.hostname)


def _refuse_reserved_address(hostname: str) -> None:
    try:
        address = ipaddress.ip_address(hostname)
    except ValueError:
        return
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        raise ValueError(
            f"{hostname} is never a model server (link-local, multicast or unspecified)."
        )


def api_key_ref(value: str) -> None:
    # The value is never repeated: it may be a key that somebody pasted here.
    if value and not (value.isprintable() and _KEY_REF.fullmatch(value)):
        raise ValueError("Give a reference, never the key: env:NAME or file:/absolute/path.")


def keep_alive(value: str) -> None:
    if value and not _KEEP_ALIVE.fullmatch(value):
        raise ValueError("Write a duration like 5m or 1h30m, seconds like 300, or -1 for ever.")


def num_ctx(value: int | None) -> None:
    if value is not None and not 1 <= value <= LONGEST_CONTEXT:
        raise ValueError(f"Write a number of tokens from 1 to {LONGEST_CONTEXT:,}.")


def price(value: Decimal | None) -> None:
    if value is None:
        return
    if not value.is_finite() or value < 0:
        raise ValueError("A price is zero or more; leave it out where it is not known.")
    if value > HIGHEST_PRICE_USD:
        raise ValueError(f"A price is dollars per 1,000 tokens, at most {HIGHEST_PRICE_USD:,}.")
    exponent = value.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > PRICE_DECIMALS:
        raise ValueError(f"A price has at most {PRICE_DECIMALS} decimals (nano-dollars).")


def amount(value: Decimal) -> None:
    if not value.is_finite() or not 0 <= value <= HIGHEST_AMOUNT_USD:
        raise ValueError(f"An amount is dollars, from 0 to {HIGHEST_AMOUNT_USD:,}.")
    exponent = value.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > PRICE_DECIMALS:
        raise ValueError(f"An amount has at most {PRICE_DECIMALS} decimals (nano-dollars).")


def zoned(value: datetime | None) -> None:
    if value is not None and value.utcoffset() is None:
        raise ValueError("Say in which time zone, e.g. 2026-01-31T00:00:00Z.")
    if value is not None and not 2000 <= value.year < 2200:
        raise ValueError("Write a year from 2000 to 2199.")


def time_zone(value: str) -> None:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError("Write a time zone's name, such as UTC or Europe/Zurich.") from exc


def thresholds(value: Collection[int]) -> None:
    if len(value) > MOST_THRESHOLDS or list(value) != sorted(set(value)):
        raise ValueError(f"Name each threshold once, the least first, at most {MOST_THRESHOLDS}.")


def subject(value: str) -> None:
    if value and (value != value.strip() or not value.isprintable() or len(value) > LONGEST_NAME):
        raise ValueError(f"Use at most {LONGEST_NAME} printable characters, no blank at the ends.")


def prefix(value: str) -> None:
    if not value.isprintable() or not value.isascii():
        raise ValueError("Use what the token begins with, as it was shown when it was made.")


def allowed_models(value: Collection[str]) -> None:
    if len(set(value)) < len(value):
        raise ValueError("Name each model once.")
    if not all(_is_word(name) for name in value):
        raise ValueError("A model's name has no blanks; write it as the catalogue does.")


def capabilities(value: Collection[str]) -> None:
    if not value:
        raise ValueError("Name at least one task that the model can do.")
    if len(set(value)) < len(value):
        raise ValueError("Name each capability once.")


def best_for(value: Collection[str]) -> None:
    if len(value) > MOST_BEST_FOR:
        raise ValueError(f"Name at most {MOST_BEST_FOR} uses.")
    for use in value:
        if not use.strip() or len(use) > LONGEST_BEST_FOR or not use.isprintable():
            raise ValueError(f"Each use has 1 to {LONGEST_BEST_FOR} printable characters.")


FIELD_RULES: dict[tuple[type, str], Rule] = {
    (ModelSpec, "name"): model_name,
    (ModelSpec, "capabilities"): capabilities,
    (ModelSpec, "cost_per_1k_input_usd"): price,
    (ModelSpec, "cost_per_1k_output_usd"): price,
    (ModelSpec, "best_for"): best_for,
    (EndpointSpec, "name"): slug,
    (EndpointSpec, "base_url"): base_url,
    (EndpointSpec, "api_key_ref"): api_key_ref,
    (EndpointSpec, "host"): place,
    (EndpointSpec, "region"): place,
    (OfferingSpec, "upstream_model"): upstream_model,
    (OfferingSpec, "num_ctx"): num_ctx,
    (OfferingSpec, "keep_alive"): keep_alive,
    (ChainSpec, "name"): title,
    (TenantSpec, "name"): slug,
    (TenantSpec, "allowed_models"): allowed_models,
    (KeySpec, "name"): slug,
    (KeySpec, "prefix"): prefix,
    (KeySpec, "allowed_models"): allowed_models,
    (KeySpec, "expires_at"): zoned,
    (PriceSpec, "valid_from"): zoned,
    (PriceSpec, "input_per_1k_usd"): price,
    (PriceSpec, "output_per_1k_usd"): price,
    (PriceSpec, "cached_input_per_1k_usd"): price,
    (PriceSpec, "embedding_per_1k_usd"): price,
    (PriceSpec, "per_request_usd"): price,
    (HostCostSpec, "host"): slug,
    (HostCostSpec, "energy_per_kwh_usd"): amount,
    (HostCostSpec, "hardware_usd"): amount,
    (BudgetSpec, "name"): title,
    (BudgetSpec, "subject"): subject,
    (BudgetSpec, "time_zone"): time_zone,
    (BudgetSpec, "limit_usd"): amount,
    (BudgetSpec, "thresholds"): thresholds,
    (SavingsSpec, "baseline"): subject,
}


def lookalike(name: str, others: Iterable[str]) -> str | None:
    """Return another name that differs from this one in upper and lower case only."""
    folded = name.casefold()
    return next((one for one in others if one != name and one.casefold() == folded), None)


def budget_subject(scope: str, subject: str) -> Iterator[Problem]:
    """Say whether a budget names what its scope asks for."""
    if scope == "all" and subject:
        yield Problem("subject", "The scope `all` has no subject; leave it out.")
    elif scope != "all" and not subject:
        yield Problem("subject", f"Name the {scope} that this budget is for.")
    elif scope == "task" and subject not in TASK_TYPES:
        yield Problem("subject", f"A task type is one of {', '.join(TASK_TYPES)}.")
    elif scope == "tag" and not (len(subject) <= LONGEST_TAG and re.search(TAG_PATTERN, subject)):
        # No request could name it, so nothing would ever be counted.
        yield Problem("subject", f"A tag has at most {LONGEST_TAG} characters: {TAG_FORM}.")


def budget_action(*, hard: bool, when_exhausted: str) -> Iterator[Problem]:
    """Say whether what is to be done fits what is promised."""
    if hard and when_exhausted == "warn":
        yield Problem("when_exhausted", "A hard budget cannot only warn; make it soft, or refuse.")


def spec_problems(spec: object) -> Iterator[Problem]:
    """Yield what fields of one object say against each other."""
    if isinstance(spec, BudgetSpec):
        yield from budget_subject(spec.scope, spec.subject)
        yield from budget_action(hard=spec.hard, when_exhausted=spec.when_exhausted)


def chain_owner(chain: ChainSpec) -> Iterator[Problem]:
    """Say whether the chain belongs to exactly one model or task type."""
    if chain.for_model and chain.for_task:
        yield Problem("for_task", "Give for_model or for_task, not both.")
    if not chain.for_model and not chain.for_task:
        yield Problem("for_model", "Give for_model or for_task; nothing would use this chain.")


def chain_members(chain: ChainSpec, models: Mapping[str, ModelSpec]) -> Iterator[Problem]:
    """Say what is wrong with a chain's members; names missing in `models` are somebody else's."""
    if not chain.models:
        yield Problem("models", "Name at least one model to fall back on.")
    owner = models.get(chain.for_model)
    for index, name in enumerate(chain.models):
        path = f"models[{index}]"
        if name in chain.models[:index]:
            yield Problem(path, f"{name} is in this chain already; a second time does nothing.")
        if name == chain.for_model:
            yield Problem(path, f"{name} would fall back on itself; take it out.")
        member = models.get(name)
        if member is not None:
            yield from _fit(chain, path, member, owner)


def _fit(
    chain: ChainSpec, path: str, member: ModelSpec, owner: ModelSpec | None
) -> Iterator[Problem]:
    able = set(member.capabilities)
    if chain.for_task and chain.for_task not in able:
        yield Problem(path, f"{member.name} lacks the capability {chain.for_task}; take it out.")
    if owner is not None and owner.name != member.name and able.isdisjoint(owner.capabilities):
        yield Problem(path, f"{member.name} can do nothing that {owner.name} does; take it out.")


def unreachable_members(
    chain: ChainSpec, models: Mapping[str, ModelSpec], offered: Collection[str]
) -> Iterator[Problem]:
    """Yield what never takes part for now: worth a warning, since a model may come back."""
    if not chain.enabled:
        return
    if chain.for_model and not _usable(chain.for_model, models):
        yield Problem("for_model", f"{chain.for_model} is disabled, so this chain is never used.")
    for index, name in enumerate(chain.models):
        if not _usable(name, models):
            yield Problem(f"models[{index}]", f"{name} is disabled and will be skipped.")
        elif name not in offered:
            yield Problem(f"models[{index}]", f"No endpoint offers {name}; it will be skipped.")


def _usable(name: str, models: Mapping[str, ModelSpec]) -> bool:
    return name in models and models[name].enabled


def plain_name(name: str) -> str:
    """Return an Ollama name without its default tag: `llama3.2:latest` is `llama3.2`."""
    return name.removesuffix(":latest")
