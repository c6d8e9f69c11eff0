"""The socket is bound once, on loopback only."""

import pytest

from orchestra_site import listening
from orchestra_site.errors import CannotStart
from tests.service import free_port


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_is_allowed(host: str) -> None:
    listening.refuse_other_hosts(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104
def test_other_hosts_are_refused(host: str) -> None:
    with pytest.raises(CannotStart, match="callers are not asked for keys yet"):
        listening.refuse_other_hosts(host)


def test_a_name_that_is_no_address_is_refused() -> None:
    with pytest.raises(CannotStart, match="no address of this machine"):
        listening.refuse_other_hosts("no-such-host.invalid")


def test_it_listens_where_it_is_told() -> None:
    port = free_port()
    with listening.listen("127.0.0.1", port) as listener:
        assert listener.getsockname() == ("127.0.0.1", port)
        with pytest.raises(CannotStart, match=f"Port {port} of 127.0.0.1 is in use by .*pid"):
            listening.listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(CannotStart, match=r"192\.0\.2\.1 port \d+ cannot be listened on"):
        listening.listen("192.0.2.1", free_port())
