"""What every test may use; each plugin keeps the fixtures of its own area."""

import shutil

from tests import environment

pytest_plugins = ["tests.fixtures_engines", "tests.fixtures_site"]

HOME = environment.enter()


def pytest_configure() -> None:
    from django.conf import settings

    # pytest-django sets Django up only if the settings are loaded by now.
    assert settings.DATABASES
    # A real hash takes a quarter of a second, which every admin's page would wait for.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME.root, ignore_errors=True)
