"""OpenAI's list of models: what a caller may write in `model`."""

import msgspec

from routing.engine.catalog import TASK_TYPES
from routing.lanes.contracts import encode
from routing.lanes.reply import Reply
from routing.lanes.runtime import Runtime

# The list has no date to tell; OpenAI's clients want a number.
CREATED = 0


class ModelEntry(msgspec.Struct):
    id: str
    object: str
    created: int
    owned_by: str


class ModelList(msgspec.Struct):
    object: str
    data: list[ModelEntry]


async def list_models(runtime: Runtime, body: bytes) -> Reply:
    """Return `auto`, `auto:<task>` for each task with a model, and every offered model."""
    runtime.require_policy()
    policy = runtime.policy
    able = {task for c in policy.candidates for task in c.model.capabilities}
    # Embedding is not chat: it has no automatic name here.
    auto = ["auto", *(f"auto:{task}" for task in TASK_TYPES if task in able - {"embedding"})]
    names = [(name, "ai-orchestra") for name in auto]
    names += [(name, offered[0].endpoint_name) for name, offered in sorted(policy.by_model.items())]
    data = [ModelEntry(name, "model", CREATED, owner) for name, owner in names]
    return Reply(200, encode(ModelList("list", data)))
