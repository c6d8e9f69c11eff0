"""Which adapter speaks to which kind of endpoint."""

from collections.abc import Callable

from routing.engine.catalog import EndpointSpec
from routing.providers.base import Provider
from routing.providers.ollama import OllamaProvider
from routing.providers.openai import OpenAIProvider

PROVIDERS: dict[str, Callable[[str, str, str], Provider]] = {
    "ollama": OllamaProvider,
    "openai": OpenAIProvider,
}


def provider_for(endpoint: EndpointSpec, api_key: str = "") -> Provider:
    """Return a new adapter for `endpoint`; the caller closes it."""
    return PROVIDERS[endpoint.provider](endpoint.name, endpoint.base_url, api_key)
