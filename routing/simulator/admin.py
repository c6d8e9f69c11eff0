"""/_sim/*: what the simulator does, and the faults to switch on and off while it runs."""

from typing import Any

import msgspec

from routing.simulator.asking import decode
from routing.simulator.course import Simulator
from routing.simulator.faults import Fault
from routing.simulator.ollama_api import VERSION
from routing.simulator.wire import Call


class FaultList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    faults: tuple[Fault, ...]


async def state(sim: Simulator, call: Call, body: bytes) -> None:
    host = sim.host
    answer = {
        "simulated": True,
        "version": VERSION,
        "instant": sim.instant,
        "memory_bytes": host.spec.memory_bytes,
        "used_bytes": host.used_bytes,
        "waiting": host.waiting,
        "loaded": [
            {
                "model": runner.model.full_name,
                "num_ctx": runner.num_ctx,
                "bytes": runner.need_bytes,
                "active": runner.active,
                "waiting": len(runner.waiters),
            }
            for runner in host.loaded()
        ],
        "totals": {
            "served": host.totals.served,
            "loads": host.totals.loads,
            "evictions": host.totals.evictions,
            "refused": host.totals.refused,
            "cancelled": sim.cancelled,
        },
        "faults": _in_force(sim),
    }
    await call.reply_json(200, answer)


async def put_faults(sim: Simulator, call: Call, body: bytes) -> None:
    """Replace every rule by those given; refuses the whole list if one is wrong."""
    wanted = decode(body, FaultList)
    sim.faults.replace(wanted.faults)
    await call.reply_json(200, {"faults": _in_force(sim)})


async def delete_faults(sim: Simulator, call: Call, body: bytes) -> None:
    sim.faults.replace(())
    await call.reply_json(200, {"faults": []})


def _in_force(sim: Simulator) -> list[dict[str, Any]]:
    rules = zip(sim.faults.rules, sim.faults.strikes, strict=True)
    return [{**msgspec.to_builtins(rule), "strikes": strikes} for rule, strikes in rules]
