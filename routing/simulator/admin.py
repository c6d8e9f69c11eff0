"""/_sim/*: what the simulator does, and the faults to switch on and off while it runs."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from routing.simulator.asking import decode
from routing.simulator.course import Refused, Simulator
from routing.simulator.faults import Fault
from routing.simulator.memory import Allocated
from routing.simulator.models import MB
from routing.simulator.ollama_api import VERSION
from routing.simulator.wire import Call


class FaultList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    faults: tuple[Fault, ...]


class Neighbour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    other_mb: Annotated[float, Meta(ge=0, le=1_000_000)]


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
        "memory": _memory(sim),
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


async def put_memory(sim: Simulator, call: Call, body: bytes) -> None:
    """Have other processes of the machine take memory; past the limit that is the end."""
    wanted = decode(body, Neighbour)
    memory = sim.host.memory
    if not isinstance(memory, Allocated):
        raise Refused(400, "no memory is allocated here; start the simulator with --allocate")
    memory.neighbour(round(wanted.other_mb * MB))
    await call.reply_json(200, {"memory": _memory(sim)})


def _memory(sim: Simulator) -> dict[str, Any] | None:
    """Return the truth about real memory, which Ollama's protocol tells nobody; None if unreal."""
    memory = sim.host.memory
    if not isinstance(memory, Allocated):
        return None
    return {
        "limit_bytes": memory.limit.limit_bytes,
        "used_bytes": memory.limit.used_bytes(),
        "other_bytes": memory.neighbour_bytes,
        "scale": memory.scale,
        "enforced_by": memory.limit.enforced_by,
    }


def _in_force(sim: Simulator) -> list[dict[str, Any]]:
    rules = zip(sim.faults.rules, sim.faults.strikes, strict=True)
    return [{**msgspec.to_builtins(rule), "strikes": strikes} for rule, strikes in rules]
