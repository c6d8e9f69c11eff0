"""`route`: have a prompt answered by the best model."""

import sys

from cli.arguments import PRIORITIES, TASK_TYPES, Parser, amount, one_of, whole
from cli.commands.base import Command, Context, add_json, without_absent
from cli.errors import OK, UsageFault
from cli.output import Cell, Console
from cli.view import caveats, count, dig, figure, pressure, text

PATH = "/api/v1/ai/route-request"
# The service's own deadline is 120 s; a little more lets its answer arrive.
_TIMEOUT_S = 130.0


def run(context: Context) -> int:
    """Print the model's answer and how it came about."""
    body = payload(context)
    answer = context.client(timeout_s=_TIMEOUT_S).post(PATH, body)
    if context.args.json:
        context.console.raw(answer.body)
    else:
        show(context.console, answer.document)
    return OK


def payload(context: Context) -> dict[str, object]:
    """Return the request body; what was not given is left to the service."""
    args = context.args
    requirements = without_absent(
        maxTokens=args.max_tokens, priority=args.priority, temperature=args.temperature
    )
    return {"taskType": args.task_type, "prompt": prompt(args.prompt)} | without_absent(
        requirements=requirements or None, retryAttempts=args.retry_attempts
    )


def prompt(given: str) -> str:
    """Return the prompt, from standard input when `-` was given."""
    if given == "-":
        if sys.stdin is None:
            raise UsageFault("PROMPT: - reads standard input, which is closed.")
        data = sys.stdin.buffer.read()
    else:
        data = given.encode(errors="surrogateescape")
    try:
        decoded = data.decode()
    except UnicodeDecodeError as fault:
        raise UsageFault(f"PROMPT: must be UTF-8 text; byte {fault.start} is not.") from fault
    if not decoded.strip():
        raise UsageFault("PROMPT: must not be empty; give a text, or - to read standard input.")
    return decoded


def show(console: Console, document: object) -> None:
    """Print the answer first, then the routing metrics."""
    console.line(text(dig(document, "response")))
    console.line()
    console.fields(
        [
            ("Model", Cell(text(dig(document, "metrics", "modelUsed")), "bold")),
            ("At", text(dig(document, "endpoint"))),
            ("Selected", text(dig(document, "selectedModel"))),
            ("Because", text(dig(document, "reason"))),
            ("Fallback used", text(dig(document, "fallbackUsed"))),
            *caveats(document),
            ("Finish reason", text(dig(document, "finishReason"))),
            ("Response time", Cell(f"{text(dig(document, 'metrics', 'responseTimeMs'))} ms")),
            ("Tokens generated", count(dig(document, "metrics", "tokensGenerated"))),
            ("Prompt tokens", count(dig(document, "metrics", "promptTokens"))),
            ("Cost", figure(dig(document, "costUsd"), "USD", digits=6)),
            ("Memory pressure", pressure(dig(document, "metrics", "memoryPressure"))),
            ("Request", text(dig(document, "requestId"))),
        ]
    )


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "task_type", metavar="TASK_TYPE", type=one_of(TASK_TYPES), help=", ".join(TASK_TYPES)
    )
    parser.add_argument(
        "prompt", metavar="PROMPT", help="text for the model; - reads standard input"
    )
    parser.add_argument("--max-tokens", type=whole(1), metavar="N", help="most tokens to generate")
    parser.add_argument("--temperature", type=amount(0), metavar="T", help="sampling temperature")
    parser.add_argument(
        "--retry-attempts", type=whole(0), metavar="N", help="attempts after the first"
    )
    parser.add_argument(
        "--priority", type=one_of(PRIORITIES), metavar="LEVEL", help=", ".join(PRIORITIES)
    )
    add_json(parser)


COMMAND = Command(
    name="route",
    summary="Route complete AI request through orchestrator.",
    add_arguments=_arguments,
    run=run,
    epilog="A prompt that begins with a dash goes after --, or through standard input with -.",
)
