"""The models that the simulator's tests play with, on a host with room for two small ones."""

import msgspec

from routing.simulator.models import Catalogue, HostSpec, Model


def shaped(name: str, size_gb: float, *, load_s: float, per_s: float, answer: int) -> Model:
    """Return a model whose KV cache is next to nothing: it needs its size and the surcharge."""
    return Model(
        name=name,
        size_gb=size_gb,
        load_time_s=load_s,
        tokens_per_s=per_s,
        answer_tokens=answer,
        blocks=1,
        embedding_length=64,
        heads=2,
        kv_heads=1,
    )


SMALL = shaped("small:1b", 1, load_s=0.05, per_s=2000, answer=12)
OTHER = shaped("other:1b", 1, load_s=0.05, per_s=2000, answer=12)
BIG = shaped("big:3b", 3, load_s=0.3, per_s=2000, answer=12)
HUGE = shaped("huge:70b", 70, load_s=1, per_s=10, answer=12)
SLOW = shaped("slow:1b", 1, load_s=0, per_s=20, answer=40)

HOST = HostSpec(memory_gb=6)
CAST = Catalogue(host=HOST, models=(SMALL, OTHER, BIG, HUGE, SLOW))


def with_slots(model: Model, slots: int) -> Model:
    return msgspec.structs.replace(model, slots=slots)
