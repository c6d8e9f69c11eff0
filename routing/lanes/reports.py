"""Which endpoints the report of a host's agent is about."""

from urllib.parse import urlsplit

from routing.engine.catalog import EndpointSpec
from routing.engine.policy import Policy
from telemetry.state_news import HostNews


def endpoints_of(policy: Policy, news: HostNews) -> list[str]:
    """Return the Ollama endpoints on that host; of several, those at the port it reports."""
    here = [
        endpoint
        for endpoint in policy.endpoints.values()
        if endpoint.host == news.host and endpoint.provider == "ollama"
    ]
    if len(here) > 1:
        here = [endpoint for endpoint in here if _port(endpoint) == news.ollama_port]
    return [endpoint.name for endpoint in here]


def _port(endpoint: EndpointSpec) -> int:
    parts = urlsplit(endpoint.base_url)
    return parts.port or (443 if parts.scheme == "https" else 80)
