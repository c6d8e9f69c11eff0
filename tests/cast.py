"""The models and endpoints that the data plane's tests play with; costs in US dollars."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from routing.engine.catalog import (
    ChainSpec,
    EndpointSpec,
    KeySpec,
    ModelSpec,
    OfferingSpec,
    PolicyDocument,
    ProfileSpec,
    TaskType,
    TenantSpec,
)
from routing.engine.decide import Decision, decide
from routing.engine.need import Need
from routing.engine.policy import Policy
from routing.engine.state import FleetState, OfferingState
from routing.policy import tokens
from routing.simulator.models import Catalogue, HostSpec, Model

CHAT: tuple[TaskType, ...] = ("completion", "reasoning", "analysis")


def model(name: str, tier: Any = "good", **more: Any) -> ModelSpec:
    """Return a free chat model of no size, unless told otherwise."""
    free = {"cost_per_1k_input_usd": Decimal(0), "cost_per_1k_output_usd": Decimal(0)}
    told = {"capabilities": CHAT, "context_length": 8192, "speed": "fast", **free, **more}
    return ModelSpec(name=name, quality_tier=tier, **told)


def priced(spec: ModelSpec, usd_per_1k: str | None) -> ModelSpec:
    """Return the model at one price for input and output; None where nobody knows it."""
    price = None if usd_per_1k is None else Decimal(usd_per_1k)
    return msgspec.structs.replace(spec, cost_per_1k_input_usd=price, cost_per_1k_output_usd=price)


TINY = model("tiny", "basic")
PLAIN = model("plain", "good")
CODER = model("coder", "high", capabilities=(*CHAT, "code"), best_for=("code",))
SAGE = model("sage", "exceptional", speed="slow")
EMBED = model("embed", "good", capabilities=("embedding",))
EVERYBODY = (TINY, PLAIN, CODER, SAGE, EMBED)

ACME = TenantSpec(name="acme")
# What the tests' tokens are hashed under, in place of a key made of the service's secret.
DIGEST_KEY = b"the tests' own digest key"


def key_for(token: str, name: str = "ci", tenant: str = "acme", **more: Any) -> KeySpec:
    """Return the key that a token is accepted for."""
    digest = tokens.digest(token.encode(), DIGEST_KEY).hex()
    return KeySpec(name=name, tenant=tenant, prefix=token[:12], digest=digest, **more)


# The simulated models: two that chat, one that embeds.
ALPHA = model("alpha:1b", "high")
BETA = model("beta:1b", "good")
VECTORS = model("vectors:1b", "good", capabilities=("embedding",))
CHAIN = ChainSpec(name="after-alpha", models=("beta:1b",), for_model="alpha:1b")


def simulated(name: str, *capabilities: str) -> Model:
    return Model(
        name=name,
        size_gb=1,
        load_time_s=0,
        slots=100,
        answer_tokens=8,
        embedding_length=64,
        blocks=1,
        heads=2,
        kv_heads=1,
        capabilities=capabilities,
    )


CATALOGUE = Catalogue(
    host=HostSpec(keep_alive_s=-1),
    models=(
        simulated("alpha:1b", "completion", "tools"),
        simulated("beta:1b", "completion", "tools"),
        simulated("vectors:1b", "embedding"),
    ),
)

CLOUD = EndpointSpec(name="cloud", provider="openai", base_url="http://127.0.0.1:1/v1")
HERE = EndpointSpec(
    name="here", provider="ollama", base_url="http://127.0.0.1:1", host="local", simulated=True
)


def everywhere(
    models: Iterable[ModelSpec], endpoints: Iterable[EndpointSpec]
) -> tuple[OfferingSpec, ...]:
    """Return an offering of every model at every endpoint."""
    places = tuple(endpoints)
    return tuple(OfferingSpec(model=m.name, endpoint=e.name) for m in models for e in places)


def document(
    models: Iterable[ModelSpec] = EVERYBODY,
    endpoints: Iterable[EndpointSpec] = (CLOUD,),
    *,
    offerings: Iterable[OfferingSpec] | None = None,
    chains: Iterable[ChainSpec] = (),
    profiles: Iterable[ProfileSpec] = (),
    **more: Any,
) -> PolicyDocument:
    models, endpoints = tuple(models), tuple(endpoints)
    return PolicyDocument(
        models=models,
        endpoints=endpoints,
        offerings=everywhere(models, endpoints) if offerings is None else tuple(offerings),
        chains=tuple(chains),
        profiles=tuple(profiles),
        **more,
    )


@dataclass(slots=True)
class Fleet:
    """A compiled policy with its state, at a clock that stands still until it is set."""

    policy: Policy
    state: FleetState = field(default_factory=FleetState)
    now: float = 1000.0

    @classmethod
    def of(cls, spec: PolicyDocument) -> "Fleet":
        fleet = cls(Policy(spec))
        fleet.state.bind(fleet.policy)
        return fleet

    def clock(self) -> float:
        return self.now

    def decide(self, task: str = "completion", **need: Any) -> Decision:
        return decide(self.policy, self.state, Need(task=task, **need), self.now)

    def live(self, offering: str) -> OfferingState:
        """Return the state of `model@endpoint`."""
        return self.state.offerings[offering]

    def trip(self, offering: str) -> None:
        """Open the breaker of an offering."""
        breaker = self.live(offering).breaker
        for _ in range(breaker.rules.consecutive_failures):
            breaker.fail(self.now, began=self.now)

    def measure(self, host: str, *, available_gb: float, total_gb: float) -> None:
        """Say how much memory a host has."""
        state = self.state.host(host)
        state.known, state.at = True, self.now
        state.available_gb, state.total_gb = available_gb, total_gb
        state.press(1 - available_gb / total_gb)

    def probe(self, endpoint: str, **seen: Any) -> None:
        """Say what the prober saw of an endpoint: up, loaded, available."""
        state = self.state.endpoint(endpoint)
        for name, value in seen.items():
            setattr(state, name, value)
        self.state.endpoint_changed(endpoint)
