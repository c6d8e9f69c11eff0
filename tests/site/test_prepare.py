"""The first admin is made once, with a password only the owner reads."""

import stat
from pathlib import Path

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from pytest_django.fixtures import Settings

from orchestra_site import prepare


@pytest.mark.django_db
def test_the_first_admin_can_sign_in(tmp_path: Path, settings: Settings) -> None:
    settings.ORCHESTRA_HOME = tmp_path
    prepare.ensure_admin()
    file = tmp_path / "admin_password"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    user = authenticate(username="admin", password=file.read_text().strip())
    assert isinstance(user, User)
    assert user.is_superuser


@pytest.mark.django_db
def test_an_existing_admin_is_left_alone(tmp_path: Path, settings: Settings) -> None:
    settings.ORCHESTRA_HOME = tmp_path
    User.objects.create_superuser("root", password="kept")
    prepare.ensure_admin()
    assert User.objects.count() == 1
    assert list(tmp_path.iterdir()) == []
