"""`keys` and `tenants`: who may call, from the command line."""

import argparse
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError

from cli.arguments import Parser, nearest
from cli.errors import OK, CliError, UsageFault
from cli.management.database import actor, database_explained
from cli.output import Cell, Console, standard_console

if TYPE_CHECKING:
    from routing.models import ApiKey, Tenant

_ALL = "all"
_NEVER = "never"
_FIELDS = {"expires_at": "--expires", "allowed_models": "--models", "name": "NAME"}


def main(argv: Sequence[str]) -> int:
    """Create, list or revoke API keys; 2 where a name or an option is wrong."""
    parser = Parser(
        "ai-orchestra keys",
        description="Create, list or revoke the API keys that callers send.",
        epilog="create prints the token once; it is not stored and cannot be shown again.",
    )
    _add_common(parser, _KEYS)
    parser.add_argument("--tenant", metavar="TENANT", help="whose key it is (create)")
    parser.add_argument(
        "--expires",
        metavar="WHEN",
        type=_moment,
        help="when it stops working: 90d, 12h, or 2027-01-31T00:00:00Z (default: never)",
    )
    return _run(parser, argv, _KEYS)


def tenants(argv: Sequence[str]) -> int:
    """Create or list tenants."""
    parser = Parser(
        "ai-orchestra tenants",
        description="Create or list tenants: the teams and customers that keys belong to.",
        epilog="Limits, shares and disabling: in the admin, or a policy file (docs/policy.md).",
    )
    _add_common(parser, _TENANTS)
    return _run(parser, argv, _TENANTS)


def _add_common(parser: Parser, actions: "dict[str, Action]") -> None:
    parser.add_argument("action", metavar="ACTION", help=", ".join(actions))
    parser.add_argument("name", metavar="NAME", nargs="?", help="whom or what it is about")
    parser.add_argument(
        "--models",
        metavar="A,B",
        type=_models,
        default=(),
        help="the only models that may be used (create; default: all)",
    )


Action = Callable[[argparse.Namespace, Console], None]


def _run(parser: Parser, argv: Sequence[str], actions: dict[str, Action]) -> int:
    args = argparse.Namespace()
    parser.parse_onto(args, argv)
    if args.action not in actions:
        known = ", ".join(actions)
        parser.error(f"{args.action!r} is not one of {known}{nearest(args.action, actions)}")
    if args.name is None and args.action != "list":
        parser.error(f"{args.action} needs a NAME")
    with database_explained():
        actions[args.action](args, standard_console(no_color=True))
    return OK


def _create_key(args: argparse.Namespace, console: Console) -> None:
    from routing.policy.issuing import create_key

    tenant = _tenant(args.tenant)
    note = _secret_note()
    try:
        row, token = create_key(
            name=args.name,
            tenant=tenant,
            expires_at=args.expires,
            allowed_models=args.models,
            actor=actor(),
        )
    except ValidationError as fault:
        raise UsageFault(_explained(fault)) from fault
    console.line(f"The key '{row.name}' of tenant '{tenant.name}', shown this once:")
    console.line(f"\n  {token}\n")
    console.line(f"Callers send it as 'Authorization: Bearer …'. {note}")
    console.line("Its stanza for a policy file:\n")
    console.line(_stanza(row))


def _secret_note() -> str:
    """Return when a new key works; raises CliError where the service would not know it."""
    from django.conf import settings

    from orchestra_site import environ, home

    running = home.running(home.Home(environ.read().home))
    if running is None or not running.secret_check:
        return "It works where the service has the SECRET_KEY that this command has."
    if running.secret_check != home.secret_check(settings.SECRET_KEY):
        raise CliError(
            "SECRET_KEY differs from the running service's, which would not know this key: give"
            " this command the same one."
        )
    return "It works within a second."


def _stanza(row: "ApiKey") -> str:
    from routing.policy.export import document_from_orm
    from routing.policy.file import to_yaml

    document = document_from_orm()
    keys = tuple(spec for spec in document.keys if spec.name == row.name)
    return to_yaml(type(document)(keys=keys)).rstrip()


def _list_keys(args: argparse.Namespace, console: Console) -> None:
    from routing.models import ApiKey

    rows = ApiKey.objects.select_related("tenant").order_by("tenant__name", "name")
    if args.name is not None:
        rows = rows.filter(tenant__name=args.name)
    headers = ("Name", "Tenant", "Begins with", "State", "Expires", "Models")
    console.table(headers, [_key_row(row) for row in rows])


def _key_row(row: "ApiKey") -> list[Cell]:
    expires = row.expires_at.astimezone(UTC).isoformat(" ", "minutes") if row.expires_at else _NEVER
    return [
        Cell(row.name),
        Cell(row.tenant.name),
        Cell(f"{row.prefix}…"),
        Cell(_state(row)),
        Cell(expires),
        Cell(", ".join(row.allowed_models) or _ALL),
    ]


def _state(row: "ApiKey") -> str:
    if not row.enabled:
        return "revoked"
    if row.expires_at is not None and row.expires_at <= datetime.now(UTC):
        return "expired"
    return "valid" if row.tenant.enabled else "tenant disabled"


def _revoke_key(args: argparse.Namespace, console: Console) -> None:
    from routing.models import ApiKey
    from routing.policy.issuing import revoke_key

    row = ApiKey.objects.filter(name=args.name).first()
    if row is None:
        known = ApiKey.objects.values_list("name", flat=True)
        raise UsageFault(f"There is no key {args.name!r}{nearest(args.name, known)}.")
    if revoke_key(row, actor=actor()):
        console.line(f"Revoked '{row.name}'; every worker refuses it within a second.")
    else:
        console.line(f"'{row.name}' was revoked before.")


def _create_tenant(args: argparse.Namespace, console: Console) -> None:
    from routing.policy.issuing import create_tenant

    try:
        row = create_tenant(name=args.name, allowed_models=args.models, actor=actor())
    except ValidationError as fault:
        raise UsageFault(_explained(fault)) from fault
    console.line(f"Created tenant '{row.name}'.")


def _list_tenants(args: argparse.Namespace, console: Console) -> None:
    from django.db.models import Count, Q

    from routing.models import Tenant

    valid = Count("keys", filter=Q(keys__enabled=True))
    rows = Tenant.objects.annotate(valid=valid).order_by("name")
    console.table(
        ("Name", "Keys", "Share", "State", "Models"),
        [
            [
                Cell(row.name),
                Cell(str(row.valid), right=True),
                Cell(f"{row.share:g}", right=True),
                Cell("enabled" if row.enabled else "disabled"),
                Cell(", ".join(row.allowed_models) or _ALL),
            ]
            for row in rows
        ],
    )


def _tenant(name: str | None) -> "Tenant":
    from routing.models import Tenant

    if name is None:
        raise UsageFault("keys create: Say whose key it is, with --tenant TENANT.")
    tenant = Tenant.objects.filter(name=name).first()
    if tenant is None:
        hint = nearest(name, Tenant.objects.values_list("name", flat=True))
        raise UsageFault(
            f"--tenant: There is no tenant {name!r}{hint}; make one with"
            " 'ai-orchestra tenants create NAME'."
        )
    return tenant


def _explained(fault: ValidationError) -> str:
    return "\n".join(
        f"{_FIELDS.get(field, field)}: {' '.join(messages)}"
        for field, messages in fault.message_dict.items()
    )


def _models(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _moment(text: str) -> datetime:
    span = re.fullmatch(r"([1-9][0-9]{0,4})([dh])", text)
    if span is not None:
        count = int(span[1])
        wait = timedelta(days=count) if span[2] == "d" else timedelta(hours=count)
        return datetime.now(UTC) + wait
    try:
        when: datetime | None = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 90d, 12h, or 2027-01-31T00:00:00Z"
        )
    return when


_KEYS: dict[str, Action] = {"create": _create_key, "list": _list_keys, "revoke": _revoke_key}
_TENANTS: dict[str, Action] = {"create": _create_tenant, "list": _list_tenants}
