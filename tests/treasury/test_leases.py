"""Money that a lost holder held: who sees it, who releases it, and whom that is refused."""

import datetime as dt
import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from cli.errors import CliError, UsageFault
from cli.main import main
from cli.management.local import run_local
from routing.models import BudgetWindow, Lease
from routing.treasury import desk, statements
from routing.treasury.leases import holders
from telemetry.database import AsyncConnection
from tests.fixtures_engines import SimulatedHost
from tests.treasury.fleet import budget, each, limited, ship, standing, working
from tests.waiting import soon

ADMIN = "/admin/routing/lease/"
Run = Callable[..., tuple[int, str, str]]


def a_lease(holder: str, *, held: int = 10**8, silent_s: int = 86_400, **more: Any) -> Lease:
    window, _ = BudgetWindow.objects.get_or_create(budget="team", limit_nusd=10**9)
    window.leased_nusd += held
    window.save()
    expires_at = timezone.now() + dt.timedelta(seconds=desk.LEASE_TTL_S - silent_s)
    told = {"spool": "a", "settled_nusd": 5, "granted_nusd": 5 + held, **more}
    return Lease.objects.create(
        id=uuid.uuid4(), window=window, holder=holder, expires_at=expires_at, **told
    )


def leased() -> int:
    return BudgetWindow.objects.get().leased_nusd


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def told(*words: str) -> tuple[int, str, str]:
        code = main(("budgets", *words), run_local)
        out, err = capsys.readouterr()
        return code, out, err

    return told


@pytest.mark.django_db
def test_holders_are_listed_with_what_they_hold(run: Run) -> None:
    a_lease("web-0-dead")
    a_lease("web-0-dead", held=5 * 10**7)
    a_lease("web-1-living", silent_s=30, held=1)
    a_lease("web-2-done", held=0)
    a_lease("web-3-buried", closed=True)
    code, out, err = run("leases")
    header, dead, living, _, last = out.splitlines()
    assert (code, err) == (0, "")
    assert dead.split()[:3] == ["web-0-dead", "0.15", "2"]
    assert header.index("STATE") == dead.index("silent") == living.index("alive")
    assert living.split()[1] == "0.000000001"
    at = holders()[1].last_sign_at
    assert f"{at:%Y-%m-%d %H:%M:%S}" in living
    assert dt.timedelta(seconds=29) < timezone.now() - at < dt.timedelta(seconds=60)
    assert last == "1 of 2 holders silent"


@pytest.mark.django_db
def test_what_a_lost_holder_held_is_released(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    a_lease("lost")
    a_lease("lost", held=7)
    a_lease("other", held=3)
    code, out, _ = run("release", "lost")
    assert code == 0
    assert out.startswith("Released $0.100000007 that 'lost' held. What is released may be spent")
    assert leased() == 3
    assert Lease.objects.filter(closed=True).count() == 2
    (line,) = [r for r in caplog.records if "Released" in r.message]
    assert line.levelno == logging.WARNING
    assert "100000007 nano-dollars held by lost of spool a" in line.message
    assert "on the command line" in line.message


@pytest.mark.django_db
def test_what_a_living_holder_holds_is_released_by_force_only(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    a_lease("web-0", silent_s=60)
    with pytest.raises(CliError, match="'web-0' lives, or did at .* may exceed the budget"):
        run_local("budgets", ("release", "web-0"))
    code, _, err = run("release", "web-0")
    assert (code, leased()) == (1, 10**8)
    assert "Nothing was released" in err
    assert "--force releases it all the same" in err
    assert "Released" not in caplog.text
    assert run("release", "web-0", "--force")[0] == 0
    assert leased() == 0
    assert ", forced, by user" in caplog.text


@pytest.mark.django_db
def test_a_name_in_two_spools_is_not_guessed(run: Run) -> None:
    a_lease("web-0", spool="a")
    a_lease("web-0", spool="b", held=1)
    assert "'web-0' is in 2 spools; say which" in run("release", "web-0")[2]
    assert run("release", "web-0", "--spool", "b")[0] == 0
    assert leased() == 10**8
    code, _, err = run("release", "web-9")
    assert code == 2
    assert "HOLDER: 'web-9' holds nothing (did you mean 'web-0'?)" in err


@pytest.mark.django_db
@pytest.mark.parametrize(
    "words", [("release",), ("leases", "web-0"), ("leases", "--force"), ("leases", "--spool", "a")]
)
def test_what_is_not_clear_releases_nothing(words: tuple[str, ...]) -> None:
    a_lease("web-0")
    with pytest.raises(UsageFault):
        run_local("budgets", words)
    assert leased() == 10**8


@pytest.mark.django_db
def test_the_admin_releases_by_the_same_rule(admin_client: Client) -> None:
    lost, living = a_lease("lost"), a_lease("web-0", silent_s=60, held=5)
    page = admin_client.get(ADMIN).content.decode()
    assert "$0.100000" in page
    assert "silent" in page
    told = {"action": "release_holders", "_selected_action": [lost.pk, living.pk]}
    answer = admin_client.post(ADMIN, told, follow=True).content.decode()
    assert leased() == 5
    assert "Released $0.100000 that &#x27;lost&#x27; held" in answer
    assert "&#x27;web-0&#x27; lives" in answer
    assert admin_client.get(f"{ADMIN}{living.pk}/change/").status_code == 200
    assert admin_client.post(f"{ADMIN}{living.pk}/change/", {}).status_code == 403
    assert admin_client.post(f"{ADMIN}{living.pk}/delete/", {}).status_code == 403


@pytest.mark.django_db
def test_who_may_only_look_releases_nothing(client: Client) -> None:
    lost = a_lease("lost")
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_lease"))
    client.force_login(user)
    assert "release_holders" not in client.get(ADMIN).content.decode()
    client.post(ADMIN, {"action": "release_holders", "_selected_action": [lost.pk]})
    assert leased() == 10**8


@pytest.mark.parametrize("by_renewal", [True, False])
async def test_who_was_given_up_and_lives_takes_another_lease(
    database: AsyncConnection,
    redis_url: str,
    host: SimulatedHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    by_renewal: bool,
) -> None:
    monkeypatch.setattr(desk, "RENEW_S", 0.1 if by_renewal else 60.0)
    policy = limited(host.url, [budget("1")], each("0.4"))
    async with working(tmp_path, "web-0", policy, redis_url) as worker:
        assert (await worker.ask()).status == 200
        (first,) = worker.stage.runtime.ledger.purses.values()
        await statements.bury(database, spool=worker.desk.spool, holder=worker.desk.holder)
        if by_renewal:
            # Its next sign of life tells it.
            await soon(lambda: first.lease not in worker.stage.runtime.ledger.purses, 5)
        else:
            # The request that needs more is told, and cannot wait for another lease.
            assert (await worker.ask()).status == 503
        assert (await worker.ask()).status == 200
        assert first.lease not in worker.stage.runtime.ledger.purses
    await ship(tmp_path)
    _, spent, held = await standing(database)
    assert (spent, held) == (8 * 10**8, 0)
    assert caplog.text.count("A lease of budget 'everything' was released") == 1
