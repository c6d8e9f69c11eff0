"""Says in one line what channels-redis would say in a traceback every second."""

import logging
import time

from redis.exceptions import RedisError

CHATTY = "channels_redis.pubsub"
REPEAT_S = 60.0


class RedisAway(logging.Filter):
    """Turns tracebacks of an unreachable Redis into a warning a minute; lets the rest through."""

    def __init__(self) -> None:
        super().__init__()
        self._said_s = -REPEAT_S

    def filter(self, record: logging.LogRecord) -> bool:
        cause = record.exc_info[1] if record.exc_info else None
        if not isinstance(cause, RedisError | OSError):
            return True
        if time.monotonic() - self._said_s < REPEAT_S:
            return False
        self._said_s = time.monotonic()
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "Dashboards get no updates, Redis does not answer: %s", (cause,)
        record.exc_info = record.exc_text = None
        return True


def quieten() -> None:
    """Filter channels-redis' own logger; its receive task tries again by itself."""
    logging.getLogger(CHATTY).addFilter(RedisAway())
