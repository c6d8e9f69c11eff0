"""The socket is bound once, on loopback only."""

import pytest

from orchestra_site import environ, listening
from orchestra_site.errors import CannotStart
from tests.service import free_port

SECRET = "s" * 32


def asked(host: str, **variables: str) -> environ.Environment:
    return environ.read({"API_HOST": host, **variables})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_neither_keys_nor_a_secret(host: str) -> None:
    environment = asked(host)
    listening.refuse_open_door(environment)
    assert not environment.keys_required


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104
def test_beyond_loopback_keys_are_required_and_a_secret_is_set(host: str) -> None:
    environment = asked(host, SECRET_KEY=SECRET)
    listening.refuse_open_door(environment)
    assert environment.keys_required
    with pytest.raises(CannotStart, match="set SECRET_KEY to a secret of at least 32"):
        listening.refuse_open_door(asked(host))
    without = asked(host, SECRET_KEY=SECRET, ORCHESTRA_REQUIRE_KEYS="off")
    with pytest.raises(CannotStart, match="ORCHESTRA_REQUIRE_KEYS is off"):
        listening.refuse_open_door(without)


def test_a_name_may_lead_anywhere_so_keys_are_required() -> None:
    assert asked("my-machine").keys_required
    assert asked("127.0.0.1", ORCHESTRA_REQUIRE_KEYS="yes").keys_required


def test_a_name_that_is_no_address_is_refused() -> None:
    with pytest.raises(CannotStart, match="no address of this machine"):
        listening.refuse_open_door(asked("no-such-host.invalid", SECRET_KEY=SECRET))


def test_it_listens_where_it_is_told() -> None:
    port = free_port()
    with listening.listen("127.0.0.1", port) as listener:
        assert listener.getsockname() == ("127.0.0.1", port)
        with pytest.raises(CannotStart, match=f"Port {port} of 127.0.0.1 is in use by .*pid"):
            listening.listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(CannotStart, match=r"192\.0\.2\.1 port \d+ cannot be listened on"):
        listening.listen("192.0.2.1", free_port())
