"""What a client speaks through."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Protocol

from actorflow.plan.stream import Stream
from actorflow.report import RequestReport

Items = Iterable[Any] | AsyncIterable[Any]
Named = Stream[Any, Any] | str
OnProgress = Callable[[RequestReport], None]

PROGRESS_EVERY_S: Final = 0.25
"""How often those who want to know are told how far their request is."""


class Connection(Protocol):
    """What a client speaks through: a host in this process, or a WebSocket to one elsewhere."""

    def request(
        self,
        stream: Named,
        item: Any,
        timeout_s: float | None,
        attributes: Mapping[str, Any] | None,
        on_progress: OnProgress | None = None,
        key: str | None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    def stream(
        self,
        stream: Named,
        items: Items,
        timeout_s: float | None,
        total_s: float | None,
        attributes: Mapping[str, Any] | None,
        key: str | None = None,
    ) -> AsyncGenerator[Any, None]: ...
    def attach(self, name: str, after: int) -> AsyncGenerator[Any, None]: ...
    async def send(
        self,
        stream: Named,
        item: Any,
        timeout_s: float | None,
        attributes: Mapping[str, Any] | None,
        key: str | None = None,
    ) -> str: ...
    async def ask(self, verb: str, argument: Any) -> Any: ...
    async def close(self) -> None: ...
