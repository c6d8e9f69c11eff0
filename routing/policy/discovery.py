"""Adds the models found at an endpoint to the catalogue, and what was learned about known ones.

Never touches what a person made or edited. A model that disappears keeps its offering: the news
says that it is not available, and it may come back.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import httpx
import msgspec
import redis
from django.db import transaction

from routing.engine.catalog import EndpointSpec, ModelSpec
from routing.models import Endpoint, Model, Offering, Origin
from routing.policy import metadata, news, rules, sizing
from routing.policy.export import lock_policy
from routing.policy.metadata import Found, ProbeError, Sighting
from routing.policy.publish import redis_client
from telemetry import state_news
from telemetry.redis_names import STATE_CHANNEL, STATE_LAST

logger = logging.getLogger(__name__)

DESCRIBED_AT_ONCE = 4
ZERO_USD = Decimal(0)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at one endpoint came to; `error` is empty where it answered."""

    endpoint: str
    error: str = ""
    version: str = ""
    models: int = 0
    models_added: tuple[str, ...] = ()
    models_updated: tuple[str, ...] = ()
    offerings_added: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """What a discovery of several endpoints came to."""

    endpoints: tuple[Seen, ...]

    @property
    def offerings_added(self) -> int:
        return sum(len(seen.offerings_added) for seen in self.endpoints)


def discover_once(endpoint_name: str | None = None) -> Report:
    """Look at every enabled endpoint, or the named one, and record what is there.

    Also tells the workers, so that the first of them can route at once. Endpoints that are down
    are part of the report, never an exception.
    """
    wanted = Endpoint.objects.filter(enabled=True)
    if endpoint_name is not None:
        wanted = Endpoint.objects.filter(name=endpoint_name)
    looks = asyncio.run(_look_at_all([endpoint.spec() for endpoint in wanted]))
    _tell([look.news for look in looks])
    return Report(tuple(_record_look(look) for look in looks))


@dataclass(frozen=True, slots=True)
class _Look:
    endpoint: EndpointSpec
    news: state_news.EndpointNews
    sighting: Sighting
    described: tuple[Found, ...]


async def _look_at_all(endpoints: Sequence[EndpointSpec]) -> list[_Look]:
    async with metadata.client() as http:
        return await asyncio.gather(*(_look(http, endpoint) for endpoint in endpoints))


async def _look(http: httpx.AsyncClient, endpoint: EndpointSpec) -> _Look:
    try:
        sighting = await metadata.look(http, endpoint)
    except ProbeError as exc:
        return _Look(endpoint, news.unseen(endpoint, str(exc)), Sighting(), ())
    described = await describe_all(http, endpoint, sighting.models or ())
    return _Look(endpoint, news.seen(endpoint, sighting), sighting, described)


async def describe_all(
    http: httpx.AsyncClient, endpoint: EndpointSpec, models: Iterable[Found]
) -> tuple[Found, ...]:
    """Return the models with their details; one that cannot be described is left out for now."""
    turns = asyncio.Semaphore(DESCRIBED_AT_ONCE)

    async def describe(found: Found) -> Found | None:
        async with turns:
            try:
                return await metadata.describe(http, endpoint, found)
            except ProbeError as exc:
                logger.info("Model %s at %s was not recorded: %s", found.name, endpoint.name, exc)
                return None

    described = await asyncio.gather(*(describe(found) for found in models))
    return tuple(found for found in described if found is not None)


def _record_look(look: _Look) -> Seen:
    if not look.news.up:
        return Seen(endpoint=look.endpoint.name, error=look.news.error)
    seen = record(look.endpoint.name, look.described)
    return msgspec.structs.replace(
        seen, version=look.sighting.version, models=len(look.sighting.models or ())
    )


def _tell(seen: Iterable[state_news.EndpointNews]) -> None:
    try:
        with redis_client() as client:
            for item in seen:
                message = state_news.encode(item)
                client.hset(STATE_LAST, item.key, message)
                client.publish(STATE_CHANNEL, message)
    except redis.RedisError as exc:
        logger.warning("Redis did not take the news of endpoints: %s", exc)


@transaction.atomic
def record(endpoint_name: str, described: Sequence[Found]) -> Seen:
    """Add or update what was found at an endpoint; changes nothing where nothing is new."""
    lock_policy()
    endpoint = Endpoint.objects.filter(name=endpoint_name).first()
    if endpoint is None:
        return Seen(endpoint=endpoint_name, error="The endpoint was deleted meanwhile.")
    return _Recorder(endpoint).record(described)


class _Recorder:
    """One endpoint's findings on their way into the catalogue."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.models = {model.name: model for model in Model.objects.all()}
        offerings = Offering.objects.select_related("model").filter(endpoint=endpoint)
        self.offered = {offering.model.name: offering for offering in offerings}
        self.upstream = {o.upstream_model or o.model.name: o.model for o in offerings}
        self.elsewhere = set(
            Offering.objects.exclude(endpoint=endpoint).values_list("model_id", flat=True)
        )
        self.added: list[str] = []
        self.updated: list[str] = []
        self.offerings: list[str] = []

    def record(self, described: Sequence[Found]) -> Seen:
        for found in described:
            if self._wanted(found):
                self._record(found)
        return Seen(
            endpoint=self.endpoint.name,
            models_added=tuple(self.added),
            models_updated=tuple(self.updated),
            offerings_added=tuple(self.offerings),
        )

    def _wanted(self, found: Found) -> bool:
        try:
            rules.model_name(found.name)
        except ValueError:
            return False
        return len(found.name) <= 200 and sizing.is_text_model(found.name)

    def _record(self, found: Found) -> None:
        model = self._known(found)
        if model is None:
            model = self._add(found)
        else:
            self._update(model, found)
        if model.name not in self.offered:
            self._offer(model, found)

    def _known(self, found: Found) -> Model | None:
        """Return the model that this is: by the upstream name, else by either spelling."""
        if found.name in self.upstream:
            return self.upstream[found.name]
        if self.endpoint.provider != "ollama":
            return self.models.get(found.name)
        plain = rules.plain_name(found.name)
        return self.models.get(plain) or self.models.get(f"{plain}:latest")

    def _add(self, found: Found) -> Model:
        name = found.name
        if self.endpoint.provider == "ollama":
            name = rules.plain_name(name)
        spec = guess(name, found, local=self.endpoint.provider == "ollama")
        model = Model(**msgspec.structs.asdict(spec))
        model.save(by=Origin.DISCOVERY)
        self.models[name] = model
        self.added.append(name)
        return model

    def _update(self, model: Model, found: Found) -> None:
        """Correct the facts; the rest of a record is a judgement, which is made once."""
        spec = guess(model.name, found, local=True)
        need_gb, context = spec.ram_required_gb, spec.context_length
        cache_mb = spec.kv_mb_per_1k_tokens
        if model.pk in self.elsewhere:
            # Another endpoint may hold another build of it; one record has to be safe for both.
            need_gb = max(need_gb, model.ram_required_gb)
            cache_mb = max(cache_mb, model.kv_mb_per_1k_tokens)
            context = min(context, model.context_length)
        facts: dict[str, float] = {}
        if found.weights_bytes:
            facts["ram_required_gb"] = need_gb
        if found.shape:
            facts["kv_mb_per_1k_tokens"] = cache_mb
        if found.context_length:
            facts["context_length"] = context
        changed = [
            name
            for name, value in facts.items()
            if model.machine_may_change(name) and getattr(model, name) != value
        ]
        for name in changed:
            setattr(model, name, facts[name])
        if changed:
            model.save(by=Origin.DISCOVERY, update_fields=changed)
            self.updated.append(model.name)

    def _offer(self, model: Model, found: Found) -> None:
        upstream = "" if found.name == model.name else found.name
        offering = Offering(model=model, endpoint=self.endpoint, upstream_model=upstream)
        offering.save(by=Origin.DISCOVERY)
        self.offered[model.name] = offering
        self.offerings.append(model.name)


def guess(name: str, found: Found, *, local: bool) -> ModelSpec:
    """Return a sensible capability record; `routing.policy.sizing` has the rules.

    `local` models cost nothing to call; the price of others is not known.
    """
    able = set(found.capabilities)
    tasks = sizing.tasks(name, able, found.parameters_b)
    longest = found.context_length or sizing.DEFAULT_CONTEXT
    weights = found.weights_bytes
    return ModelSpec(
        name=name,
        capabilities=tasks,
        quality_tier="good" if tasks == ("embedding",) else sizing.quality_tier(found.parameters_b),
        speed="fast" if tasks == ("embedding",) else sizing.speed(found.parameters_b),
        ram_required_gb=(
            sizing.ram_required_gb(weights, found.shape, sizing.DEFAULT_CONTEXT) if weights else 0.0
        ),
        kv_mb_per_1k_tokens=sizing.kv_mb_per_1k_tokens(found.shape),
        context_length=longest,
        cost_per_1k_input_usd=ZERO_USD if local else None,
        cost_per_1k_output_usd=ZERO_USD if local else None,
        best_for=sizing.best_for(name, able),
    )
