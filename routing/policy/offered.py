"""What a policy offers, as telemetry knows offerings."""

from routing.engine.catalog import PolicyDocument
from telemetry.offering_health import KnownOffering


def known_offerings(policy: PolicyDocument) -> tuple[KnownOffering, ...]:
    """Return each model at each endpoint, as far as all three are enabled."""
    endpoints = {e.name: e for e in policy.endpoints if e.enabled}
    models = {m.name for m in policy.models if m.enabled}
    return tuple(
        KnownOffering(
            model=o.model,
            endpoint=o.endpoint,
            upstream=o.upstream_model or o.model,
            simulated=endpoints[o.endpoint].simulated,
        )
        for o in policy.offerings
        if o.enabled and o.model in models and o.endpoint in endpoints
    )
