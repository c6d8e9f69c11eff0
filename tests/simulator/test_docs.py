"""docs/simulator.md names every option, preset and fault there is."""

from pathlib import Path
from typing import get_args

from routing.simulator.__main__ import parser
from routing.simulator.faults import Fault, Kind
from routing.simulator.models import presets

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()


def test_every_option_and_preset_is_documented() -> None:
    actions = parser()._actions
    options = [name for action in actions for name in action.option_strings if name[:2] == "--"]
    wanted = [name for name in options if name != "--help"] + presets()
    assert [name for name in wanted if f"`{name}" not in PAGE] == []


def test_every_fault_and_each_of_its_fields_is_documented() -> None:
    wanted = [*get_args(Kind), *(set(Fault.__struct_fields__) - {"kind"})]
    assert [name for name in wanted if f"`{name}`" not in PAGE] == []
