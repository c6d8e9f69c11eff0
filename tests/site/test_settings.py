"""What Django is set to: paths, headers, static files, hosts."""

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


def test_the_front_page_leads_to_the_dashboard(client: Client) -> None:
    response = client.get("/")
    assert (response.status_code, response["Location"]) == (302, "/dashboard")


def test_the_dashboard_answers_at_exactly_its_path(client: Client) -> None:
    response = client.get("/dashboard")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/api/docs", "/api/redoc", "/api/schema", "/admin/login/"])
def test_the_pages_are_there(client: Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_documentation_loads_nothing_from_elsewhere(client: Client) -> None:
    for path in ("/api/docs", "/api/redoc"):
        page = client.get(path).content.decode()
        assert 'src="http' not in page
        assert 'href="http' not in page


def test_pages_carry_secure_headers(client: Client) -> None:
    response = client.get("/admin/login/")
    assert response["X-Frame-Options"] == "DENY"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"


def test_strange_hosts_are_refused(client: Client) -> None:
    assert client.get("/admin/login/", headers={"host": "evil.example"}).status_code == 400


def test_no_path_of_the_api_redirects_a_post(client: Client) -> None:
    assert client.post("/api/v1/ai/select-model/", {}, "application/json").status_code == 404


@pytest.mark.parametrize("path", ["//api/v1/health", "/API/v1/health", "/V1/models"])
def test_a_mistyped_path_of_the_api_is_answered_in_json(client: Client, path: str) -> None:
    answer = client.get("/", PATH_INFO=path)
    assert answer.status_code == 404
    assert "json" in answer["Content-Type"]
