"""The served OpenAPI schema against the service that serves it, through both doors."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from routing.lanes.table import LANES
from routing.simulator.course import Simulator
from routing.simulator.server import running
from tests.cast import ALPHA, BETA, CATALOGUE, VECTORS, document
from tests.lanes.serving import serving
from tests.lanes.stage import CHAT, ROUTE, at
from tests.service import LiveService

DOORS = {
    "lane": {"accept": "application/json"},
    "drf": {"accept": "application/json, text/html;q=0.1"},
}
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
CHECKS: list[Any] = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# These call a model, which takes the simulator of a newcomer's service seconds.
CALLING = {ROUTE, CHAT}
CONTROL = [
    ("GET", "/api/v1/ai/analytics/costs"),
    ("GET", "/api/v1/ai/analytics/requests"),
    ("GET", "/api/v1/ai/analytics/savings"),
    ("GET", "/api/v1/ai/models/status"),
    ("GET", "/api/v1/ai/resources/metrics"),
    ("GET", "/api/v1/health"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
]
OPERATIONS = [*CONTROL, *((lane.method, lane.path) for lane in LANES)]


@pytest.fixture(scope="module")
def schema(live_service: LiveService) -> Any:
    return schemathesis.openapi.from_url(f"{live_service.url}/api/schema?format=json")


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


@pytest.fixture(scope="module")
def instant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a lane door whose models answer at once."""
    with running(Simulator(CATALOGUE, instant=True)) as url:
        policy = document((ALPHA, BETA, VECTORS), (at(url),))
        with serving(tmp_path_factory.mktemp("spool"), policy) as served:
            yield served.url


def hold(
    operation: Any,
    mode: GenerationMode,
    examples: int,
    *,
    session: requests.Session,
    base_url: str,
    headers: dict[str, str],
) -> None:
    """Send random requests, right or wrong ones; every answer is one that the schema declares."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        answer = case.call(base_url=base_url, session=session, headers=headers, timeout=30)
        assert answer.status_code != 500
        case.validate_response(answer, checks=CHECKS)

    one()


def test_the_schema_describes_these_operations(schema: Any) -> None:
    told = {(op.ok().method.upper(), op.ok().path) for op in schema.get_all_operations()}
    assert set(OPERATIONS) <= told


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: str(mode.value))
@pytest.mark.parametrize(("method", "path"), [o for o in OPERATIONS if o[1] not in CALLING])
def test_what_calls_no_model(
    schema: Any,
    session: requests.Session,
    live_service: LiveService,
    method: str,
    path: str,
    mode: GenerationMode,
    door: str,
) -> None:
    operation = schema[path][method]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
        pytest.skip("nothing can be wrong about it")
    url = live_service.url
    hold(operation, mode, 25, session=session, base_url=url, headers=DOORS[door])


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: str(mode.value))
@pytest.mark.parametrize("path", sorted(CALLING))
def test_what_calls_a_model(
    schema: Any, session: requests.Session, instant: str, path: str, mode: GenerationMode
) -> None:
    operation = schema[path]["POST"]
    hold(operation, mode, 60, session=session, base_url=instant, headers=DOORS["lane"])


@pytest.mark.parametrize("path", sorted(CALLING))
def test_what_calls_a_model_refuses_alike_through_drf(
    schema: Any, session: requests.Session, live_service: LiveService, path: str
) -> None:
    operation, mode = schema[path]["POST"], GenerationMode.NEGATIVE
    url = live_service.url
    hold(operation, mode, 25, session=session, base_url=url, headers=DOORS["drf"])
