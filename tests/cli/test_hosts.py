"""`resources` lists the machines that report, where there are any."""

import io

from cli.commands.resources import show_hosts
from cli.output import Console

LOCAL = {"name": "local", "known": True, "pressure": 0.25, "memoryAvailableGb": 12.0, "gpus": []}
SILENT = {
    "name": "gpu-box", "known": False, "pressure": 0.1, "memoryAvailableGb": 60.0,
    "ageSeconds": 42.0, "gpus": [{"freeGb": 10.0}, {"freeGb": 12.5}],
}  # fmt: skip


def shown(*hosts: dict[str, object]) -> str:
    stream = io.StringIO()
    show_hosts(Console(stream, colour=False), hosts)
    return stream.getvalue()


def test_a_host_alone_needs_no_table() -> None:
    assert shown(LOCAL) == ""


def test_a_silent_host_is_unknown_and_has_an_age() -> None:
    local, silent = shown(LOCAL, SILENT).splitlines()[-2:]
    assert local.split()[:3] == ["local", "0.25", "normal"]
    assert silent.split()[:2] == ["gpu-box", "unknown"]
    assert "42.0" in silent
    assert "22.50" in silent
