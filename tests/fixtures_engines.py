"""Fixtures shared by every test that needs an inference engine; `tests/conftest.py` loads them."""

from collections.abc import Iterator

import pytest

from tests.engines import Engine, running_llama_server


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A real llama.cpp server with a tiny model, shared by the whole session."""
    with running_llama_server(tmp_path_factory.mktemp("llama")) as engine:
        yield engine
