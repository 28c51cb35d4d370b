"""An app in this process: the client's verbs, straight on a host."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from types import TracebackType
from typing import Any

from actorflow.asking import told
from actorflow.client import Client
from actorflow.connection import PROGRESS_EVERY_S, Items, Named, OnProgress
from actorflow.errors import ActorflowError, activation_error
from actorflow.plan.app import AppPlan
from actorflow.runtime.answers import Answer
from actorflow.runtime.host import Host
from actorflow.runtime.replica import SLICE_S
from actorflow.runtime.request import RUNNING, Request
from actorflow.runtime.wiring import Wiring
from actorflow.stores import open_store
from actorflow.stores.store import Store


class LocalConnection:
    """A connection to a host on this event loop."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._wirings: dict[Named, Wiring] = {}
        host.changes.listeners.add(self)

    def streams_changed(self) -> None:
        """Look streams up anew."""
        self._wirings.clear()

    def _wiring(self, stream: Named) -> Wiring:
        """Return a stream by any of its points or its name. Raises: UnknownStreamError."""
        wiring = self._host.stream(stream if isinstance(stream, str) else stream.name)
        self._wirings[stream] = wiring
        return wiring

    async def request(
        self,
        stream: Named,
        item: Any,
        timeout_s: float | None,
        attributes: Mapping[str, Any] | None,
        on_progress: OnProgress | None = None,
        key: str | None = None,
    ) -> Any:
        """Process on the caller's stack when the host is idle; wait only when that did not suffice."""
        host = self._host
        wiring = self._wirings.get(stream) or self._wiring(stream)
        if type(item) is not wiring.item_type:
            item = wiring.checked(item)
        if key is None:
            request = host.begin(wiring, item, timeout_s, attributes)
        else:
            begun = host.begin_once(wiring, item, key, timeout_s, attributes)
            if isinstance(begun, Answer):
                return await _given_before(host, begun)
            request = begun
        if (request.state == RUNNING and not request.answered) or request.held:
            if on_progress is not None:
                return await _watched(request, on_progress)
            return await host.answer(request)
        if host.began - host.breath > SLICE_S:
            host.breath = host.began
            await asyncio.sleep(0)  # a caller in a tight loop lets the event loop breathe
        if request.error is not None:
            raise request.error
        return request.value if wiring.replies == "one" else request.answer_value()

    async def stream(
        self,
        stream: Named,
        items: Items,
        timeout_s: float | None,
        total_s: float | None,
        attributes: Mapping[str, Any] | None,
        key: str | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Feed items and read replies, each as fast as the other side allows."""
        host = self._host
        wiring = self._wiring(stream)
        if key is not None:
            host.replays.check_new(key)
        request = host.feed(wiring, timeout_s, attributes)
        details = request.more()
        details.idle_since_s = host.now_s()
        replies = request.stream_replies().read
        replay = host.replays.begin(key, request) if key is not None else None
        reader: object = None
        if replay is not None:
            replies = replay.reading(0)
            reader = replay.reader
        feeding = asyncio.create_task(_feed(host, request, items), name=f"input of {request.id}")
        total = host.loop.call_later(total_s, request.expire) if total_s is not None else None
        try:
            while values := await replies():
                details.idle_since_s = host.now_s()
                for value in values:
                    yield value
        finally:
            if total is not None:
                total.cancel()
            if replay is None or replay.reader is reader:  # else somebody else reads now, and it goes on
                request.cancel("its reader left")
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            if replay is None:
                request.let_go_of_replies()

    async def attach(self, name: str, after: int) -> AsyncGenerator[Any, None]:
        """Read the replies of a request that was begun under a key, from a number on."""
        replay = self._host.replays.find(name)
        if replay is None:
            yield await self._host.answer_of(name)
            return
        replies = replay.reading(after)
        while values := await replies():
            replay.request.more().idle_since_s = self._host.now_s()
            for value in values:
                yield value

    async def send(
        self,
        stream: Named,
        item: Any,
        timeout_s: float | None,
        attributes: Mapping[str, Any] | None,
        key: str | None = None,
    ) -> str:
        """Start a request and do not wait for it, only until it is accepted."""
        wiring, host = self._wiring(stream), self._host
        item = wiring.checked(item)
        if key is not None:
            begun = host.begin_once(wiring, item, key, timeout_s, attributes, sent=True)
            request_id = begun.id if isinstance(begun, Request) else key
        else:
            request_id = host.begin_sent(wiring, item, timeout_s, attributes).id
        await host.settled()
        return request_id

    async def ask(self, verb: str, argument: Any) -> Any:
        """Ask the host about itself."""
        answer = told(self._host, verb, argument)
        await self._host.settled()
        return answer

    async def close(self) -> None:
        """Nothing to close: the host belongs to whoever started it."""


async def _given_before(host: Host, answer: Answer) -> Any:
    await host.settled()
    return answer.result()


async def _watched(request: Request, on_progress: OnProgress) -> Any:
    """Await the answer of a request, and tell how far it is."""
    host = request.host

    async def report() -> None:
        began_s = host.now_s()
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            on_progress(request.report(began_s))

    answering = asyncio.ensure_future(host.answer(request))
    reporting = asyncio.ensure_future(report())
    try:
        await asyncio.wait({answering, reporting}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            reporting.result()  # it can only have ended by what `on_progress` raised
        return await answering
    finally:
        for task in (answering, reporting):
            task.cancel()
        await asyncio.gather(answering, reporting, return_exceptions=True)


async def _feed(host: Host, request: Request, items: Items) -> None:
    wiring, details = request.stream, request.more()
    try:
        if isinstance(items, AsyncIterable):
            async for item in items:
                host.feed_items(request, [wiring.checked(item)])
                details.idle_since_s = host.now_s()
                if request.crowded():
                    await request.room()
                if request.state:
                    return
        else:
            batch: list[Any] = []
            for item in items:
                batch.append(wiring.checked(item))
                if len(batch) >= host.limits.batch_items:
                    host.feed_items(request, batch)
                    batch = []
                    await (request.room() if request.crowded() else asyncio.sleep(0))
                    details.idle_since_s = host.now_s()
                    if request.state:
                        return
            if batch:
                host.feed_items(request, batch)
    except ActorflowError as error:
        request.fail(error)
    except Exception as error:
        request.fail(
            activation_error(error, f"the items of request {request.id} raised {type(error).__name__}: {error}")
        )
    finally:
        host.fed(request)


class Local:
    """An app running in this process, as an async context manager that yields a client."""

    def __init__(
        self,
        app: AppPlan,
        *,
        strict: bool = False,
        inline: bool = True,
        shuffle: bool = False,
        watch: bool = True,
        chance: random.Random | None = None,
        store: str | Store | None = None,
    ) -> None:
        self._app = app
        self._store = store
        self._options: dict[str, Any] = {
            "strict": strict, "inline": inline, "shuffle": shuffle, "watch": watch, "chance": chance,
        }  # fmt: skip
        self.host: Host | None = None

    async def __aenter__(self) -> Client:
        store = open_store(self._store) if isinstance(self._store, str) else self._store
        self.host = Host(self._app, **self._options, store=store)
        await self.host.start()
        return Client(LocalConnection(self.host))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.host is not None
        await self.host.stop()
