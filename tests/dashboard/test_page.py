"""The shell of the live page; without the `db` fixture any query would fail."""

import pytest
from django.test import Client


@pytest.fixture
def page(client: Client) -> str:
    return client.get("/dashboard", headers={"host": "127.0.0.1:8123"}).content.decode()


def test_it_answers_html_without_a_redirect_or_a_query(client: Client) -> None:
    response = client.get("/dashboard")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/html")


def test_its_command_names_the_host_that_was_asked(page: str) -> None:
    assert "curl http://127.0.0.1:8123/api/v1/ai/route-request" in page


def test_it_loads_nothing_from_elsewhere_and_runs_nothing_inline(client: Client) -> None:
    response = client.get("/dashboard")
    policy = dict(part.split(" ", 1) for part in response["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "font", "connect")} == {"'self'"}
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in response["Content-Security-Policy"]
    page = response.content.decode()
    assert "<style" not in page
    assert " style=" not in page
    assert "//" not in page.replace("http://testserver/api", "")


def test_a_foreign_host_is_refused(client: Client) -> None:
    assert client.get("/dashboard", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_it_only_answers_to_reading(client: Client, method: str) -> None:
    assert getattr(client, method)("/dashboard").status_code == 405
