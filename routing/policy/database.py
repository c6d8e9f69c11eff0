"""The ORM from asyncio: one door, which leaves no connection behind."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function that uses the ORM in a thread of its own; its connections are closed."""
    return await asyncio.to_thread(then_close, function)


def then_close(function: Callable[[], T]) -> T:
    """Run a function and close the connections that its thread opened."""
    # Imported here: a web worker that finds its policy in Redis need not have loaded Django.
    from django.db import connections

    try:
        return function()
    finally:
        connections.close_all()
