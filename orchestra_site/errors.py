"""What an operator is told instead of a traceback.

    OperatorError
    ├── HomeError        ORCHESTRA_HOME cannot be used
    ├── PostgresError    the embedded PostgreSQL cannot run
    ├── RedisError       the embedded Redis cannot run
    └── CannotStart      `up` cannot start, or a process of it does not

`environ.InvalidEnvironment` stands beside them: it has several sentences, not one.
"""


class OperatorError(Exception):
    """Raised for a foreseeable fault; its message is one sentence that names the remedy."""


class HomeError(OperatorError):
    """Raised when ORCHESTRA_HOME cannot be used."""


class PostgresError(OperatorError):
    """Raised when the embedded PostgreSQL cannot run."""


class RedisError(OperatorError):
    """Raised when the embedded Redis cannot run."""


class CannotStart(OperatorError):
    """Raised when `up` cannot start, or one of its processes does not."""
