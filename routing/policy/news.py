"""Tells the workers what was seen of an endpoint."""

import time

from routing.engine.catalog import EndpointSpec
from routing.policy.metadata import Sighting
from telemetry.state_news import EndpointNews

SIMULATOR_MARK = "simulated"


def seen(endpoint: EndpointSpec, sighting: Sighting) -> EndpointNews:
    """Return the news of an endpoint that answered, with names as it spells them."""
    models = sighting.models
    return EndpointNews(
        endpoint=endpoint.name,
        up=True,
        at=time.time(),
        loaded=tuple(model.name for model in sighting.loaded),
        loaded_mb=tuple(model.weights_bytes / 1e6 for model in sighting.loaded),
        loaded_gpu_mb=tuple(model.gpu_bytes / 1e6 for model in sighting.loaded),
        loaded_ctx=tuple(model.context_length or 0 for model in sighting.loaded),
        available=None if models is None else tuple(model.name for model in models),
        version=sighting.version,
        simulated=endpoint.simulated or SIMULATOR_MARK in sighting.version,
    )


def unseen(endpoint: EndpointSpec, error: str) -> EndpointNews:
    """Return the news of an endpoint that did not answer."""
    return EndpointNews(
        endpoint=endpoint.name, up=False, at=time.time(), simulated=endpoint.simulated, error=error
    )
