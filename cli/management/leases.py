"""`budgets leases` and `budgets release`: whose money is held, and giving up on who is lost."""

import argparse
from collections.abc import Sequence

from cli.arguments import Parser, nearest
from cli.errors import OK, CliError, UsageFault
from cli.management.database import actor, database_explained
from cli.output import Cell, Console, standard_console
from cli.view import moment

_COLUMNS = ("Holder", "Held $", "Leases", "Since", "Last sign of life", "State", "Spool")


def main(argv: Sequence[str]) -> int:
    """List who holds money, or release what one holds; 1 where the holder lives."""
    from routing.treasury.leases import WARNING

    parser = Parser(
        "ai-orchestra budgets",
        description="List who holds leased money, or release what a holder that is lost held.",
        epilog=WARNING,
    )
    parser.add_argument("action", metavar="ACTION", help="leases, release")
    parser.add_argument("holder", metavar="HOLDER", nargs="?", help="whose leases end (release)")
    parser.add_argument(
        "--spool", metavar="SPOOL", default="", help="whose holder, where several have the name"
    )
    parser.add_argument(
        "--force", action="store_true", help="release even what a living holder holds"
    )
    args = argparse.Namespace()
    parser.parse_onto(args, argv)
    if (args.action == "release") != bool(args.holder):
        parser.error("Give HOLDER to release, and none to leases.")
    if args.action == "leases" and (args.force or args.spool):
        parser.error("--force and --spool belong to 'budgets release HOLDER'.")
    console = standard_console(no_color=False)
    with database_explained():
        if args.action == "release":
            _release(args, console)
        else:
            _list(console)
    return OK


def _list(console: Console) -> None:
    from django.utils import timezone

    from routing.treasury.leases import holders

    now, found = timezone.now(), holders()
    if found:
        rows = [
            [
                Cell(one.name),
                Cell(_dollars(one.held_nusd), right=True),
                Cell(str(one.leases), right=True),
                Cell(moment(one.since.isoformat())),
                Cell(moment(one.last_sign_at.isoformat())),
                Cell("alive", "green") if one.lives(now) else Cell("silent", "red"),
                Cell(one.spool),
            ]
            for one in found
        ]
        console.table(_COLUMNS, rows)
        console.line()
    silent = sum(not one.lives(now) for one in found)
    console.line(f"{silent} of {len(found)} holders silent")


def _release(args: argparse.Namespace, console: Console) -> None:
    from routing.treasury.leases import WARNING, HolderLives, NoSuchHolder, holders, release

    try:
        by = f"user '{actor()}' on the command line"
        holder = release(args.holder, spool=args.spool, force=args.force, by=by)
    except NoSuchHolder as fault:
        hint = nearest(args.holder, {one.name for one in holders()})
        raise UsageFault(f"HOLDER: {fault}{hint}. See 'ai-orchestra budgets leases'.") from fault
    except HolderLives as fault:
        raise CliError(
            f"{fault}. Nothing was released: stop it, and what it holds goes back by itself."
            f" --force releases it all the same. {WARNING}"
        ) from fault
    console.line(f"Released ${_dollars(holder.held_nusd)} that '{holder.name}' held. {WARNING}")


def _dollars(nusd: int) -> str:
    """Return an amount exactly: here a nano-dollar may be all there is."""
    whole, rest = divmod(nusd, 10**9)
    return f"{whole:,}." + f"{rest:09d}".rstrip("0").ljust(2, "0")
