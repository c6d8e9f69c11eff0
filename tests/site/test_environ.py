"""Settings are read from the environment and refused together, each in one clear sentence."""

from pathlib import Path

import pytest

from orchestra_site import environ


def test_the_defaults_are_those_of_the_readme() -> None:
    read = environ.read({})
    assert (read.api_host, read.api_port) == ("127.0.0.1", 8080)
    assert (read.ollama_url, read.database_url, read.redis_url) == (None, None, None)
    assert read.home == environ.CHECKOUT / "var"
    assert 1 <= read.web_workers <= 4


def test_everything_may_be_set(tmp_path: Path) -> None:
    read = environ.read(
        {
            "API_HOST": "::1",
            "API_PORT": " 9000 ",
            "WEB_WORKERS": "3",
            "OLLAMA_URL": "https://models.example:11434",
            "DATABASE_URL": "postgresql://me:secret@db/app",
            "REDIS_URL": "rediss://:secret@cache:6380/1",
            "ORCHESTRA_HOME": str(tmp_path),
            "SECRET_KEY": "k" * 40,
            "ORCHESTRA_ALLOWED_HOSTS": "ai.example, .internal",
        }
    )
    assert (read.api_host, read.api_port, read.web_workers) == ("::1", 9000, 3)
    assert read.allowed_hosts == ("ai.example", ".internal")
    assert "secret" not in repr(read)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    bad = {
        "API_HOST": "not a host",
        "API_PORT": "http",
        "WEB_WORKERS": "0",
        "OLLAMA_URL": "localhost:11434",
        "DATABASE_URL": "mysql://db/app",
        "REDIS_URL": "redis://",
        "ORCHESTRA_HOME": str(file),
        "SECRET_KEY": "short",
        "ORCHESTRA_ALLOWED_HOSTS": "https://ai.example",
    }
    with pytest.raises(environ.InvalidEnvironment) as caught:
        environ.read(bad)
    assert [problem.split(" ", 1)[0] for problem in caught.value.problems] == list(bad)
    assert all(problem.endswith(".") for problem in caught.value.problems)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "80.5", "٣", "1e3", "9" * 400])
def test_a_bad_port_is_refused_with_its_range(port: str) -> None:
    with pytest.raises(environ.InvalidEnvironment, match="whole number from 1 to 65535"):
        environ.read({"API_PORT": port})


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(environ.InvalidEnvironment) as caught:
        environ.read(
            {"DATABASE_URL": "mysql://me:hunter2@db/app", "REDIS_URL": "http://x:hunter2@h"}
        )
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://host:99999", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://host:0", "names port 0"),
        ("http://", "names no host"),
    ],
)
def test_a_url_is_refused_with_its_reason(url: str, problem: str) -> None:
    with pytest.raises(environ.InvalidEnvironment, match=problem):
        environ.read({"OLLAMA_URL": url})


def test_a_database_url_becomes_django_settings() -> None:
    read = environ.database_settings("postgresql://me:p%40ss@db:6432/app?sslmode=require")
    assert (read["USER"], read["PASSWORD"], read["HOST"]) == ("me", "p@ss", "db")
    assert (read["PORT"], read["NAME"]) == ("6432", "app")
    assert read["OPTIONS"] == {"sslmode": "require"}


def test_a_database_url_may_name_a_socket() -> None:
    read = environ.database_settings("postgresql://me@/app?host=%2Frun%2Fpg&port=5433")
    assert (read["HOST"], read["PORT"], read["OPTIONS"]) == ("/run/pg", "5433", {})
