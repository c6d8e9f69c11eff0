"""What can go wrong, and the exit code that says so.

CliError
├── UsageFault    2    the command or a value is wrong; nothing is gained by repeating it
├── Unreachable   3    no orchestrator answered at the address
├── Refused            the orchestrator answered with a problem:
│                 2    the request is wrong (400, 413, 415, 422)
│                 4    policy does not allow it (401, 402, 403, 429): key, budget, rights, rate
│                 1    anything else, such as 503: no model could answer
└── OutputFault   1    what was answered could not be written
"""

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
FORBIDDEN = 4
INTERRUPTED = 130
# What a shell reports for a process that SIGPIPE ended.
BROKEN_PIPE = 141

_WRONG_REQUEST = frozenset({400, 413, 415, 422})
_NOT_ALLOWED = frozenset({401, 402, 403, 429})


class CliError(Exception):
    """Raised when a command ends early; its text is all the caller sees."""

    exit_code = FAILED


class UsageFault(CliError):
    """Raised when the command line itself is wrong."""

    exit_code = USAGE


class Unreachable(CliError):
    """Raised when no orchestrator answers at the address."""

    exit_code = UNREACHABLE


class OutputFault(CliError):
    """Raised when the result cannot be written."""


class Refused(CliError):
    """Raised when the orchestrator answers with an error status; `body` is what it sent."""

    def __init__(self, message: str, *, status: int, body: bytes) -> None:
        super().__init__(message)
        self.body = body
        if status in _WRONG_REQUEST:
            self.exit_code = USAGE
        elif status in _NOT_ALLOWED:
            self.exit_code = FORBIDDEN
