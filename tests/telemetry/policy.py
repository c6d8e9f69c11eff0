"""A small policy in the database, for the tests that need one."""

from routing.models import Endpoint, Model, Offering


def an_endpoint(name: str = "here", **changes: object) -> Endpoint:
    fields: dict[str, object] = {"provider": "ollama", "base_url": "http://127.0.0.1:9"}
    return Endpoint.objects.create(name=name, **{**fields, **changes})


def a_model(name: str, *endpoints: Endpoint, **changes: object) -> Model:
    fields: dict[str, object] = {"capabilities": ["code", "analysis"], "quality_tier": "good"}
    model = Model.objects.create(name=name, **{**fields, **changes})
    for endpoint in endpoints:
        Offering.objects.create(model=model, endpoint=endpoint)
    return model
