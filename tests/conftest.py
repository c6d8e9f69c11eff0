"""What every test may use; each plugin keeps the fixtures of its own area."""

import shutil

from orchestra_site.collector import calm
from tests import environment

pytest_plugins = ["tests.fixtures_engines", "tests.fixtures_site"]

HOME = environment.enter()


def pytest_configure() -> None:
    from django.conf import settings

    # pytest-django sets Django up only if the settings are loaded by now.
    assert settings.DATABASES
    # A real hash takes a quarter of a second, which every admin's page would wait for.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_collection_finish() -> None:
    # Workers do the same. To look through all that the suite has loaded stops whatever is under way
    # for half a second, which is longer than some of its deadlines.
    calm()


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME.root, ignore_errors=True)
