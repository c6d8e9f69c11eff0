"""A small named cast for the policy's tests."""

from typing import Any

from routing.models import ChainEntry, Endpoint, FallbackChain, Model, Offering, Origin


def a_model(name: str = "llama3.2:3b", **fields: Any) -> Model:
    by = fields.pop("by", Origin.ADMIN)
    model = Model(
        **{"name": name, "capabilities": ["completion"], "quality_tier": "good", **fields}
    )
    model.save(by=by)
    return model


def an_endpoint(name: str = "desk", **fields: Any) -> Endpoint:
    url = "http://127.0.0.1:11434"
    endpoint = Endpoint(**{"name": name, "provider": "ollama", "base_url": url, **fields})
    endpoint.save()
    return endpoint


def an_offering(model: Model, endpoint: Endpoint, **fields: Any) -> Offering:
    return Offering.objects.create(model=model, endpoint=endpoint, **fields)


def a_chain(name: str, *members: Model, **fields: Any) -> FallbackChain:
    chain = FallbackChain.objects.create(name=name, **fields)
    for position, member in enumerate(members):
        ChainEntry.objects.create(chain=chain, model=member, position=position)
    return chain
