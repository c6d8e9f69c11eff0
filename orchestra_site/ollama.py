"""Finds the Ollama to route to: the operator's, the machine's, or the simulator in its stead."""

import http.client
import json
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestra_site.environ import DEFAULT_OLLAMA_URL

PROBE_LIMIT_S = 1.0
# Next to Ollama's own, so that the endpoint keeps its address from start to start.
USUAL_SIMULATOR_PORT = 11435


@dataclass(frozen=True, slots=True)
class Upstream:
    """The Ollama endpoint of this run; `simulator_port` is None when it is a real one."""

    url: str
    simulator_port: int | None = None


def find(configured_url: str | None, *, simulate: bool) -> Upstream:
    """Return the configured Ollama, down or not; else the machine's own; else a simulator."""
    if simulate or (configured_url is None and not answers(DEFAULT_OLLAMA_URL)):
        port = _free_port(USUAL_SIMULATOR_PORT)
        return Upstream(f"http://127.0.0.1:{port}", simulator_port=port)
    return Upstream(configured_url or DEFAULT_OLLAMA_URL)


def answers(url: str) -> bool:
    """Return True if something that speaks Ollama's protocol answers at the URL."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port or 80, timeout=PROBE_LIMIT_S
    )
    try:
        connection.request("GET", "/api/version")
        response = connection.getresponse()
        return response.status == 200 and "version" in json.loads(response.read(4096))
    except (OSError, http.client.HTTPException, ValueError, TypeError):
        return False
    finally:
        connection.close()


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")
