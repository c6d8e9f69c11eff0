"""The policy's admin pages, as a signed-in admin uses them."""

import time
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from routing.admin.live import BOARD
from routing.admin.offering import OfferingAdmin
from routing.engine.catalog import DEFAULT_PROFILES
from routing.models import Endpoint, FallbackChain, Model, Offering, Origin, RoutingProfile
from routing.policy.discovery import discover_once
from routing.policy.export import document_from_orm
from routing.policy.seed import seed
from telemetry.redis_names import STATE_LAST
from telemetry.state_news import BreakerNews, encode
from tests.fixtures_engines import SimulatedHost
from tests.policy.catalogue import a_chain, a_model, an_endpoint, an_offering

pytestmark = pytest.mark.django_db

NOUNS = ("model", "endpoint", "offering", "fallbackchain", "routingprofile")


@pytest.fixture
def admin_client(client: Client) -> Client:
    """Signed in without a password, whose slow hash nothing here needs."""
    client.force_login(User.objects.create(username="ada", is_staff=True, is_superuser=True))
    return client


def url(noun: str, page: str, *args: object) -> str:
    return reverse(f"admin:routing_{noun}_{page}", args=args)


def model_form(**fields: Any) -> dict[str, Any]:
    return {
        "name": "m",
        "capabilities": ["completion", "code"],
        "quality_tier": "good",
        "speed": "fast",
        "ram_required_gb": "4.5",
        "kv_mb_per_1k_tokens": "0",
        "context_length": "8192",
        "cost_per_1k_input_usd": "0.00015",
        "cost_per_1k_output_usd": "",
        "best_for": "code, drafts",
        "enabled": "on",
        "offerings-TOTAL_FORMS": "0",
        "offerings-INITIAL_FORMS": "0",
        **fields,
    }


def chain_form(*members: Model, **fields: Any) -> dict[str, Any]:
    rows = {
        f"entries-{index}-{key}": value
        for index, member in enumerate(members)
        for key, value in (("model", member.pk), ("position", index), ("id", ""))
    }
    return {
        "name": "c",
        "for_model": "",
        "for_task": "",
        "enabled": "on",
        "entries-TOTAL_FORMS": len(members),
        "entries-INITIAL_FORMS": "0",
        **rows,
        **fields,
    }


def complaints(response: Any) -> str:
    assert response.status_code == 200, "the form was accepted"
    page: str = response.content.decode()
    return page.replace("&#x27;", "'")


@pytest.mark.parametrize("noun", NOUNS)
def test_every_page_opens(admin_client: Client, simulator: SimulatedHost, noun: str) -> None:
    seed(ollama_url=simulator.url, simulated=True)
    discover_once()
    assert admin_client.get(url(noun, "changelist"), {"q": "llama"}).status_code == 200
    table = {
        "model": Model,
        "endpoint": Endpoint,
        "offering": Offering,
        "fallbackchain": FallbackChain,
        "routingprofile": RoutingProfile,
    }[noun]
    first = table.objects.first()  # type: ignore[attr-defined]
    assert admin_client.get(url(noun, "change", first.pk)).status_code == 200
    assert admin_client.get(url(noun, "history", first.pk)).status_code == 200
    if noun != "routingprofile":
        assert admin_client.get(url(noun, "add")).status_code == 200


def test_the_list_tells_what_matters(admin_client: Client, simulator: SimulatedHost) -> None:
    seed(ollama_url=simulator.url, simulated=True)
    discover_once()
    BOARD.forget()
    a_model("priced", cost_per_1k_input_usd=Decimal("0.00015"))
    page = admin_client.get(url("model", "changelist")).content.decode()
    assert "$0.00015 / unknown" in page
    assert "free" in page
    assert "6.3\u00a0GB" in page
    assert "ready" in page
    assert "not offered" in page


def test_filters_find_by_capability(admin_client: Client) -> None:
    a_model("writes")
    a_model("embeds", capabilities=["embedding"])
    page = admin_client.get(url("model", "changelist"), {"capability": "embedding"})
    assert [row.name for row in page.context["cl"].result_list] == ["embeds"]


def test_a_model_is_added_and_edited(admin_client: Client) -> None:
    assert admin_client.post(url("model", "add"), model_form()).status_code == 302
    model = Model.objects.get()
    assert (model.capabilities, model.best_for) == (["completion", "code"], ["code", "drafts"])
    assert (model.cost_per_1k_input_usd, model.cost_per_1k_output_usd) == (Decimal("0.00015"), None)
    admin_client.post(url("model", "change", model.pk), model_form(quality_tier="high"))
    model.refresh_from_db()
    assert model.quality_tier == "high"
    assert LogEntry.objects.count() == 2


def test_prices_are_written_out(admin_client: Client) -> None:
    model = a_model(cost_per_1k_input_usd=Decimal(0), cost_per_1k_output_usd=Decimal("0.00015"))
    form = admin_client.get(url("model", "change", model.pk)).context["adminform"].form
    assert form["cost_per_1k_input_usd"].value() == "0"
    assert form["cost_per_1k_output_usd"].value() == "0.00015"


def test_an_edit_of_a_found_model_is_remembered(admin_client: Client) -> None:
    model = a_model("m", by=Origin.DISCOVERY, capabilities=["completion", "code"])
    admin_client.post(url("model", "change", model.pk), model_form(context_length="4096"))
    model.refresh_from_db()
    assert model.origin == Origin.DISCOVERY
    assert model.edited_fields == [
        "best_for",
        "cost_per_1k_input_usd",
        "ram_required_gb",
        "speed",
    ]
    page = admin_client.get(url("model", "change", model.pk)).content.decode()
    assert "discovery leaves your edits alone: best_for" in page


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"name": "two words"}, "A model's name has no blanks"),
        ({"name": "auto:code"}, "`auto` asks for a selection"),
        ({"name": "taken:latest"}, "taken is the same model; edit that one."),
        ({"capabilities": ["cooking"]}, "cooking is not one of the available choices"),
        ({"capabilities": []}, "This field is required"),
        ({"ram_required_gb": "-1"}, "greater than or equal to 0"),
        ({"context_length": "0"}, "greater than or equal to 1"),
        ({"cost_per_1k_input_usd": "-0.1"}, "A price is zero or more"),
        ({"cost_per_1k_input_usd": "0.0000000001"}, "no more than 9 decimal places"),
    ],
)
def test_a_bad_model_is_refused_in_words(
    admin_client: Client, fields: dict[str, Any], complaint: str
) -> None:
    a_model("taken")
    assert complaint in complaints(admin_client.post(url("model", "add"), model_form(**fields)))


def test_a_capability_that_a_chain_needs_stays(admin_client: Client) -> None:
    model = a_model("m", capabilities=["completion", "code"])
    a_chain("coders", model, for_task="code")
    response = admin_client.post(
        url("model", "change", model.pk), model_form(capabilities=["completion"])
    )
    assert "The chain 'coders' needs code of it; take it out there first." in complaints(response)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"base_url": "ftp://host"}, "Start it with http:// or https://."),
        ({"base_url": "http://me:pw@host"}, "Take the user and password out"),
        ({"base_url": "http://"}, "It names no host"),
        ({"base_url": "http://host/?q=1"}, "Take the query and fragment out"),
        ({"base_url": "http://0.0.0.0:1"}, "is never a model server"),
        ({"api_key_ref": "sk-12345"}, "Give a reference, never the key"),
        ({"api_key_ref": "file:relative"}, "Give a reference, never the key"),
        ({"name": "a@b"}, "Use letters, digits"),
        ({"host": "two words"}, "Use letters, digits"),
        ({"max_concurrency": "0"}, "greater than or equal to 1"),
        ({"min_residency_s": "-1"}, "greater than or equal to 0"),
    ],
)
def test_a_bad_endpoint_is_refused_in_words(
    admin_client: Client, fields: dict[str, Any], complaint: str
) -> None:
    form = {"name": "e", "provider": "openai", "base_url": "http://host:1/v1", "enabled": "on"}
    assert complaint in complaints(admin_client.post(url("endpoint", "add"), {**form, **fields}))


@pytest.mark.parametrize("keep_alive", ["soon", "5 m", "1.5.2h"])
def test_a_bad_offering_is_refused_in_words(admin_client: Client, keep_alive: str) -> None:
    model, endpoint = a_model(), an_endpoint()
    form = {"model": model.pk, "endpoint": endpoint.pk, "enabled": "on", "keep_alive": keep_alive}
    page = complaints(admin_client.post(url("offering", "add"), form))
    assert "Write a duration like 5m" in page


def test_a_second_offering_of_the_same_is_refused(admin_client: Client) -> None:
    model, endpoint = a_model(), an_endpoint()
    an_offering(model, endpoint)
    form = {"model": model.pk, "endpoint": endpoint.pk, "enabled": "on"}
    page = complaints(admin_client.post(url("offering", "add"), form))
    assert "This endpoint offers the model already; edit that one." in page


def test_a_chain_keeps_the_order_it_was_given(admin_client: Client) -> None:
    first, second = a_model("zeta"), a_model("alpha")
    form = chain_form(first, second, for_task="completion")
    response = admin_client.post(url("fallbackchain", "add"), form, follow=True)
    assert document_from_orm().chains[0].models == ("zeta", "alpha")
    assert "No endpoint offers zeta; it will be skipped." in response.content.decode()


def test_members_added_without_dragging_come_last(admin_client: Client) -> None:
    one, two, three, four = (a_model(name) for name in ("one", "two", "three", "four"))
    chain = a_chain("c", one, two, for_task="completion")
    entries = list(chain.entries.all())
    rows = {
        "entries-INITIAL_FORMS": "2",
        "entries-0-id": entries[0].pk,
        "entries-1-id": entries[1].pk,
        "entries-2-position": "0",
        "entries-3-position": "0",
    }
    form = chain_form(one, two, three, four, for_task="completion", **rows)
    assert admin_client.post(url("fallbackchain", "change", chain.pk), form).status_code == 302
    assert document_from_orm().chains[0].models == ("one", "two", "three", "four")
    dragged = {f"entries-{row}-position": position for row, position in enumerate((3, 2, 1, 0))}
    saved = {f"entries-{row}-id": entry.pk for row, entry in enumerate(chain.entries.all())}
    form |= {**dragged, **saved, "entries-INITIAL_FORMS": "4"}
    assert admin_client.post(url("fallbackchain", "change", chain.pk), form).status_code == 302
    assert document_from_orm().chains[0].models == ("four", "three", "two", "one")


def test_a_bad_chain_is_refused_beside_its_member(admin_client: Client) -> None:
    one, two = a_model("one"), a_model("two", capabilities=["embedding"])
    post = admin_client.post

    def refused(*members: Model, **fields: Any) -> str:
        return complaints(post(url("fallbackchain", "add"), chain_form(*members, **fields)))

    assert "two lacks the capability code" in refused(two, for_task="code")
    assert "one would fall back on itself" in refused(one, for_model=one.pk)
    assert "two can do nothing that one does" in refused(two, for_model=one.pk)
    assert "Name at least one model" in refused(for_task="code")
    assert "Give for_model or for_task, not both" in refused(two, for_task="code", for_model=one.pk)
    assert "nothing would use this chain" in refused(one)
    assert "Please correct the duplicate" in refused(one, one, for_task="completion")


def test_two_enabled_chains_for_one_task_are_refused(admin_client: Client) -> None:
    one = a_model("one")
    a_chain("first", one, for_task="completion")
    off = a_chain("second", one, for_task="completion", enabled=False)
    form = chain_form(one, for_task="completion")
    page = complaints(admin_client.post(url("fallbackchain", "add"), form))
    assert "Another enabled chain stands in for this task type." in page
    switch = {"action": "enable", "_selected_action": [off.pk]}
    response = admin_client.post(url("fallbackchain", "changelist"), switch, follow=True)
    assert "second: Another enabled chain" in response.content.decode()
    assert not FallbackChain.objects.get(pk=off.pk).enabled


def test_many_are_disabled_at_once_with_a_history(admin_client: Client) -> None:
    models = [a_model("a", by=Origin.DISCOVERY), a_model("b", by=Origin.DISCOVERY)]
    switch = {"action": "disable", "_selected_action": [model.pk for model in models]}
    admin_client.post(url("model", "changelist"), switch)
    assert not Model.objects.filter(enabled=True).exists()
    assert Model.objects.get(name="a").edited_fields == ["enabled"]
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Disabled."] * 2


def test_the_connection_is_tested_with_a_button(
    admin_client: Client, simulator: SimulatedHost
) -> None:
    good = an_endpoint("good", base_url=simulator.url)
    dead = an_endpoint("dead", base_url="http://127.0.0.1:9")

    def tested(endpoint: Endpoint) -> str:
        test = reverse("admin:routing_endpoint_test_connection", args=[endpoint.pk])
        return admin_client.get(test, follow=True).content.decode()

    page = tested(good)
    assert "good answers. Version 0.0.0-simulated. Models (14): codellama:7b" in page
    assert "and 2 more. Loaded: none." in page
    assert "dead is not fit: Nothing answers at http://127.0.0.1:9/api/" in tested(dead)


def test_a_key_is_shown_by_its_reference_only(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_KEY", "sk-planted-0123")
    endpoint = an_endpoint(provider="openai", api_key_ref="env:PLANTED_KEY")
    test = reverse("admin:routing_endpoint_test_connection", args=[endpoint.pk])
    for page in (url("endpoint", "changelist"), url("endpoint", "change", endpoint.pk), test):
        answer = admin_client.get(page, follow=True).content.decode()
        assert "env:PLANTED_KEY" in answer
        assert "sk-planted" not in answer


def test_the_four_profiles_can_be_edited_and_not_deleted(admin_client: Client) -> None:
    seed(ollama_url="http://127.0.0.1:9", simulated=False)
    assert RoutingProfile.objects.count() == len(DEFAULT_PROFILES)
    low = RoutingProfile.objects.get(priority="low")
    assert admin_client.get(url("routingprofile", "add")).status_code == 403
    assert admin_client.get(url("routingprofile", "delete", low.pk)).status_code == 403


def test_who_is_not_signed_in_sees_nothing(client: Client) -> None:
    endpoint = an_endpoint()
    for page in (
        url("endpoint", "changelist"),
        reverse("admin:routing_endpoint_test_connection", args=[endpoint.pk]),
    ):
        assert client.get(page).status_code == 302


class TestBreakers:
    @pytest.fixture
    def offerings(self, redis_url: str) -> list[Offering]:
        """The first one's breaker is open."""
        rows = [an_offering(a_model(name), an_endpoint(f"at-{name}")) for name in ("one", "two")]
        news = BreakerNews("one@at-one", "open", 1.0, time.time() + 60)
        with redis.Redis.from_url(redis_url) as client:
            client.hset(STATE_LAST, news.key, encode(news))
        BOARD.forget()
        return rows

    def test_their_state_is_a_column_and_a_filter(
        self, admin_client: Client, offerings: list[Offering]
    ) -> None:
        for state, shown in (("open", "at-one"), ("closed", "at-two")):
            page = admin_client.get(url("offering", "changelist"), {"breaker": state})
            (row,) = page.context["cl"].result_list
            assert str(row.endpoint) == shown
            assert OfferingAdmin.breaker(page.context["cl"].model_admin, row) == state

    def test_an_action_resets_them_and_is_kept_in_their_history(
        self, admin_client: Client, offerings: list[Offering]
    ) -> None:
        form = {"action": "reset_breaker", "_selected_action": [o.pk for o in offerings]}
        page = admin_client.post(url("offering", "changelist"), form, follow=True)
        assert "2 circuit breakers reset" in page.content.decode()
        assert BOARD.breaker(offerings[0]) == "closed"
        assert LogEntry.objects.filter(change_message="Circuit breaker reset.").count() == 2

    def test_without_redis_it_says_that_nothing_was_reset(
        self, admin_client: Client, offerings: list[Offering], settings: Any
    ) -> None:
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
        form = {"action": "reset_breaker", "_selected_action": [offerings[0].pk]}
        page = admin_client.post(url("offering", "changelist"), form, follow=True)
        assert "nothing was reset" in page.content.decode()
        assert not LogEntry.objects.exists()
