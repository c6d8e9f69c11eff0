"""OpenAI's list of models: what a caller may write in `model`."""

import msgspec

from routing.engine.callers import Caller
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


async def list_models(runtime: Runtime, body: bytes, caller: Caller) -> Reply:
    """Return `auto`, `auto:<task>` for each task with a model, and the offered models.

    A caller is told of the models that its key may use.
    """
    runtime.require_policy()
    policy = runtime.policy
    allowed = [name for name in sorted(policy.by_model) if caller.may_use(name)]
    able = {task for name in allowed for task in policy.models[name].capabilities}
    # Embedding is not chat: it has no automatic name here.
    auto = ["auto", *(f"auto:{task}" for task in TASK_TYPES if task in able - {"embedding"})]
    names = [(name, "ai-orchestra") for name in auto]
    names += [(name, policy.by_model[name][0].endpoint_name) for name in allowed]
    data = [ModelEntry(name, "model", CREATED, owner) for name, owner in names]
    return Reply(200, encode(ModelList("list", data)))
