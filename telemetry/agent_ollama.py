"""What the Ollama of this machine holds, by its `/api/ps`: names, sizes and expiry."""

import asyncio
import logging
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import msgspec

from telemetry.events import HeldModel
from telemetry.waiting import pause

logger = logging.getLogger(__name__)

ANSWER_LIMIT_S = 2.0
MB = 1_000_000
LONGEST_PAUSE_S = 1.0


class _Model(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    size: Annotated[int, msgspec.Meta(ge=0)] = 0
    size_vram: Annotated[int, msgspec.Meta(ge=0)] = 0
    expires_at: str = ""


class _Answer(msgspec.Struct):
    models: list[_Model] = []


class OllamaWatch:
    """Keeps what it saw last: `held` is None while Ollama does not answer."""

    def __init__(self, url: str, interval_s: float) -> None:
        self.held: tuple[HeldModel, ...] | None = None
        self._url = url
        self._pause_s = min(interval_s, LONGEST_PAUSE_S)
        self._away = False

    @property
    def port(self) -> int:
        parts = urlsplit(self._url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set."""
        async with httpx.AsyncClient(timeout=ANSWER_LIMIT_S, trust_env=False) as client:
            while True:
                await self._look(client)
                if await pause(stop, self._pause_s):
                    return

    async def look(self) -> None:
        """Look once."""
        async with httpx.AsyncClient(timeout=ANSWER_LIMIT_S, trust_env=False) as client:
            await self._look(client)

    async def _look(self, client: httpx.AsyncClient) -> None:
        try:
            answer = await client.get(f"{self._url}/api/ps")
            answer.raise_for_status()
            found = msgspec.json.decode(answer.content, type=_Answer)
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError) as exc:
            if not self._away:
                logger.warning("Ollama is away, only memory is reported: %s", exc)
            self._away, self.held = True, None
            return
        self._away = False
        self.held = tuple(_held(model) for model in found.models or [])


def _held(model: _Model) -> HeldModel:
    made = {"name": model.name, "size_mb": model.size / MB, "vram_mb": model.size_vram / MB}
    try:
        return msgspec.convert(made | {"expires_at": model.expires_at}, HeldModel)
    except msgspec.ValidationError:
        return msgspec.convert(made, HeldModel)
