"""The client: the same verbs in process and over the network."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from actorflow.connection import Connection, Items, OnProgress
from actorflow.plan.stream import Stream

Q = TypeVar("Q")
R = TypeVar("R")


class Client:
    """Sends requests to the streams of an app.

    `async with Client("http://localhost:7700") as client` speaks to a host that `actorflow run` has started (or
    `"unix:///run/shop.sock"` to one on this machine);
    `async with app.local() as client` runs the app in this process. Streams are named by any point of them (then
    replies arrive as the declared type), or by their name.

    connections: over how many a client far away spreads what it asks. One carries many requests at once; with more, a
    large item delays no others.
    """

    def __init__(self, url: str | Connection, *, token: str | None = None, connections: int = 1) -> None:
        if isinstance(url, str):
            from actorflow.remote import Pool, RemoteConnection

            self._connection: Connection = (
                RemoteConnection(url, token=token) if connections == 1 else Pool(url, token=token, size=connections)
            )
        else:
            self._connection = url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; requests that are open fail with ConnectionLostError."""
        await self._connection.close()

    @overload
    def request(
        self,
        stream: Stream[Q, R],
        item: Q,
        *,
        timeout_s: float | None = ...,
        attributes: Mapping[str, Any] | None = ...,
        on_progress: OnProgress | None = ...,
        key: str | None = ...,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def request(
        self,
        stream: str,
        item: Any,
        *,
        timeout_s: float | None = ...,
        attributes: Mapping[str, Any] | None = ...,
        on_progress: OnProgress | None = ...,
        key: str | None = ...,
    ) -> Coroutine[Any, Any, Any]: ...
    def request(
        self,
        stream: Stream[Any, Any] | str,
        item: Any,
        *,
        timeout_s: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
        key: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Send one item and await the one reply. Cancelling the await cancels the request.

        timeout_s: the deadline, by default the stream's.   attributes: what operators see as `self.request.attributes`.
        on_progress: called with a `RequestReport` four times a second while the request takes time: how much is under
        way, and for each loop its round, its items and its state.   key: an idempotency key. Whoever asks again with
        the same key, for the same item, gets the one answer, and nothing is done twice. A client far away makes one for
        each request, and asks again by itself when its connection is lost, until the deadline; one in the same process
        needs none.

        Raises: UnknownStreamError, InvalidItemError, or whatever the request ended with (see `actorflow.errors`); an
        exception that an operator raised is caught by its own class as well as by ActivationError.
        """
        return self._connection.request(stream, item, timeout_s, attributes, on_progress, key)

    @overload
    def stream(
        self,
        stream: Stream[Any, R],
        item: Any = ...,
        *,
        items: Items | None = ...,
        timeout_s: float | None = ...,
        total_s: float | None = ...,
        attributes: Mapping[str, Any] | None = ...,
        key: str | None = ...,
    ) -> AsyncGenerator[R, None]: ...
    @overload
    def stream(
        self,
        stream: str,
        item: Any = ...,
        *,
        items: Items | None = ...,
        timeout_s: float | None = ...,
        total_s: float | None = ...,
        attributes: Mapping[str, Any] | None = ...,
        key: str | None = ...,
    ) -> AsyncGenerator[Any, None]: ...
    def stream(
        self,
        stream: Stream[Any, Any] | str,
        item: Any = None,
        *,
        items: Items | None = None,
        timeout_s: float | None = None,
        total_s: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Send one item, or many (`items`, plain or async), and iterate over the replies as they come.

        Items are taken as there is room for them, replies as they are read: both sides wait for the slower one.
        `timeout_s` is the longest time without any item or reply, `total_s` an optional deadline for all of it.
        Leaving the loop early cancels the request; wrap it in `contextlib.aclosing` to have that happen at once.

        key: under which the request can be found again (`attach`). A client far away makes one, and when its connection
        is lost it goes on where it was, with items and replies; a request that was given one goes on without its
        caller until it waits for it for `timeout_s`.

        Raises: as `request`.
        """
        sent = (item,) if items is None else items
        return self._connection.stream(stream, sent, timeout_s, total_s, attributes, key)

    def attach(self, name: str, *, after: int = 0) -> AsyncGenerator[Any, None]:
        """Iterate over the replies of a request that was begun under a key, here or by somebody else.

        name: its key, or its id.   after: the number of the first reply that is wanted, from 0. One that streams its
        replies has one reader: who attaches takes them over. Leaving the loop leaves the request alone. What a stream
        answers once is yielded once.

        Raises: ReplayExpiredError when these replies are not kept any more, or there is no such request; whatever the
        request ended with.
        """
        return self._connection.attach(name, after)

    async def send(
        self,
        stream: Stream[Q, Any] | str,
        item: Any,
        *,
        timeout_s: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> str:
        """Start a request, return its id once it is accepted, and await no reply; its errors become dead letters.

        On a host with a store it is accepted when that is durable: it will be done, whatever happens.

        Raises: UnknownStreamError, InvalidItemError, TooManyRequestsError, HostStoppingError.
        """
        return await self._connection.send(stream, item, timeout_s, attributes, key)

    async def cancel(self, request_id: str) -> bool:
        """Cancel a request by its id; return whether it was still in flight."""
        return bool(await self._connection.ask("cancel", request_id))

    # -- shared state, as it is committed

    async def cells(self) -> list[dict[str, Any]]:
        """Return what cells the app has: name, kind, key space, number of entries, keys locked and waited for."""
        return list(await self._connection.ask("cells", None))

    async def cell(self, name: str, key: Any = None) -> Any:
        """Return what a cell holds under a key, or, of one without keys, what it holds.

        Raises: UnknownStreamError when there is no such cell, or nothing under the key; InvalidItemError.
        """
        return await self._connection.ask("cell", [name, key])

    async def cell_range(
        self, name: str, start: Any = None, end: Any = None, *, limit: int = 100
    ) -> list[tuple[Any, Any]]:
        """Return keys and values of a cell in order of the keys, from `start` up to, not including, `end`.

        At most `limit`; go on from the last key for more. All of one answer is of one instant.

        Raises: UnknownStreamError; InvalidItemError.
        """
        return [(key, value) for key, value in await self._connection.ask("range", [name, start, end, limit])]

    async def locks(self) -> list[dict[str, Any]]:
        """Return which keys are in use, by whom, and who waits for them."""
        return list(await self._connection.ask("locks", None))

    # -- dead letters

    async def dead_letters(self) -> list[dict[str, Any]]:
        """Return the dead letters of the host, oldest first: number, stream, operator, request, item and error."""
        return list(await self._connection.ask("dead_letters", None))

    async def replay(self, number: int) -> str:
        """Process a dead letter's item again, as a new request without an answer; return its id.

        Raises: UnknownStreamError when there is no such letter.
        """
        return str(await self._connection.ask("replay", number))
