"""`keys` and `tenants`: made, listed and revoked from the command line."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User

from cli.arguments import default_key
from cli.errors import UsageFault
from cli.main import main
from cli.management.local import run_local
from routing.models import ApiKey, Tenant
from routing.policy import tokens
from routing.policy.export import document_from_orm
from routing.policy.file import check_policy
from tests.policy.catalogue import a_model

pytestmark = pytest.mark.django_db

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def told(*words: str) -> tuple[int, str, str]:
        code = main(words, run_local)
        out, err = capsys.readouterr()
        return code, out, err

    return told


@pytest.fixture
def acme(run: Run) -> Tenant:
    assert run("tenants", "create", "acme") == (0, "Created tenant 'acme'.\n", "")
    return Tenant.objects.get()


def test_a_key_is_made_and_printed_once(run: Run, acme: Tenant) -> None:
    a_model("small")
    words = ("keys", "create", "ci", "--tenant", "acme", "--expires", "90d", "--models", "small")
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    found = re.search(r"ao_acme_[0-9A-Za-z]{43}", out)
    assert found is not None
    (spec,) = document_from_orm().keys
    secret = tokens.digest_key(settings.SECRET_KEY)
    assert spec.digest == tokens.digest(found[0].encode(), secret).hex()
    assert spec.allowed_models == ("small",)
    assert spec.expires_at is not None
    assert timedelta(days=89) < spec.expires_at - datetime.now(UTC) < timedelta(days=91)
    assert out.count(found[0]) == 1
    # The stanza is what is stored already.
    stanza = out[out.index("keys:\n") :]
    assert check_policy(stanza).changes == ()
    for listed in (run("keys", "list"), run("keys", "list", "acme")):
        assert listed[0] == 0
        assert spec.prefix in listed[1]
        assert found[0] not in listed[1]
        assert spec.digest not in listed[1]


def test_a_key_is_revoked(run: Run, acme: Tenant) -> None:
    run("keys", "create", "ci", "--tenant", "acme")
    code, out, _ = run("keys", "revoke", "ci")
    assert (code, out) == (0, "Revoked 'ci'; every worker refuses it within a second.\n")
    assert not ApiKey.objects.get().enabled
    assert run("keys", "revoke", "ci")[1] == "'ci' was revoked before.\n"
    assert "revoked" in run("keys", "list")[1]


def test_the_list_says_how_a_key_stands(run: Run, acme: Tenant) -> None:
    run("keys", "create", "old", "--tenant", "acme", "--expires", "2020-01-01T00:00:00Z")
    assert "expired" in run("keys", "list")[1]
    run("keys", "create", "new", "--tenant", "acme")
    assert "valid" in run("keys", "list")[1]
    Tenant.objects.update(enabled=False)
    assert "tenant disabled" in run("keys", "list")[1]
    assert "disabled" in run("tenants", "list")[1]


def test_who_did_it_is_in_the_admins_history(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    User.objects.create(username="ada")
    run("tenants", "create", "acme")
    run("keys", "create", "ci", "--tenant", "acme")
    run("keys", "revoke", "ci")
    assert LogEntry.objects.filter(user__username="ada").count() == 3


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("keys",), "the following arguments are required: ACTION"),
        (("keys", "creat", "x"), "did you mean 'create'?"),
        (("keys", "create"), "create needs a NAME"),
        (("keys", "create", "x"), "Say whose key it is, with --tenant"),
        (("keys", "create", "x", "--tenant", "acne"), "There is no tenant 'acne' (did you mean"),
        (("keys", "create", "a b", "--tenant", "acme"), "NAME: Use letters, digits"),
        (("keys", "create", "x", "--tenant", "acme", "--expires", "soon"), "'soon' is no time"),
        (("keys", "create", "x", "--tenant", "acme", "--models", "a b"), "--models: "),
        (("keys", "revoke", "cii"), "There is no key 'cii' (did you mean 'ci'?)."),
        (("keys", "create", "ci", "--tenant", "acme"), "NAME: API key with this Name already"),
        (("tenants", "create", "acme"), "NAME: Tenant with this Name already exists."),
        (("tenants", "delete", "acme"), "'delete' is not one of create, list"),
    ],
)
def test_what_is_wrong_is_said(
    run: Run, acme: Tenant, words: tuple[str, ...], complaint: str
) -> None:
    run("keys", "create", "ci", "--tenant", "acme")
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert complaint in err
    assert ApiKey.objects.count() == 1


def test_the_script_sends_the_key_of_its_environment() -> None:
    assert default_key({"ORCHESTRA_API_KEY": " ao_x "}) == "ao_x"
    assert default_key({}) == ""
    with pytest.raises(UsageFault) as refused:
        default_key({"ORCHESTRA_API_KEY": "ao_planted\r\nX: y"})
    assert "planted" not in str(refused.value)
