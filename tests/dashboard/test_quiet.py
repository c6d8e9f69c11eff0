"""What channels-redis logs while Redis is away."""

import logging

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from dashboard.quiet import CHATTY, REPEAT_S, RedisAway


def record(error: Exception) -> logging.LogRecord:
    info = (type(error), error, None)
    return logging.LogRecord(CHATTY, logging.ERROR, "", 1, "Unexpected exception", (), info)


@pytest.mark.parametrize("error", [RedisConnectionError("refused"), ConnectionRefusedError("no")])
def test_an_outage_is_one_line_a_minute(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    quiet, first = RedisAway(), record(error)
    assert quiet.filter(first)
    assert first.getMessage() == f"Dashboards get no updates, Redis does not answer: {error}"
    assert (first.levelno, first.exc_info) == (logging.WARNING, None)
    assert not quiet.filter(record(error))
    now_s += REPEAT_S
    assert quiet.filter(record(error))


def test_any_other_error_keeps_its_traceback() -> None:
    unexpected = record(ValueError("a bug"))
    assert RedisAway().filter(unexpected)
    assert unexpected.exc_info
    assert unexpected.levelno == logging.ERROR


def test_the_filter_is_in_place() -> None:
    filters = logging.getLogger(CHATTY).filters
    assert any(isinstance(installed, RedisAway) for installed in filters)
