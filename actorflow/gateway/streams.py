"""Requests over HTTP: one item or lines of them in; one reply, lines or events out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

from aiohttp import web

from actorflow.errors import ActorflowError, CodecError, InvalidItemError
from actorflow.gateway.bodies import (
    EVENTS,
    LINES,
    as_json,
    dump,
    is_lines,
    read_item,
    read_lines,
    streamed_as,
    timeout_of,
)
from actorflow.gateway.problems import document_of, to_json
from actorflow.plan.app import OpenPlan
from actorflow.runtime.answers import Answer, digest_of
from actorflow.runtime.host import Host
from actorflow.runtime.replays import Replay
from actorflow.runtime.request import ReplyQueue, Request
from actorflow.runtime.wiring import Wiring

HEADER_WAITS_S = 0.2
"""How long the head of an answer waits for the first reply, or for an error that says it better."""


class StreamRoutes:
    """`POST /streams/{name}`, `POST /streams/{name}/send`, `GET /requests/{id}/replies`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        # found at once, those that never change; others by their pattern, to be told that they are unknown
        known = () if isinstance(self._host.app, OpenPlan) else self._host.wirings.values()
        return [
            *(web.post(f"/streams/{wiring.name}", functools.partial(self._request, wiring)) for wiring in known),
            web.post("/streams/{name}", self._post),
            web.post("/streams/{name}/send", self._send),
            web.get("/requests/{id}/replies", self._replies),
        ]

    async def _post(self, request: web.Request) -> web.StreamResponse:
        return await self._request(self._host.stream(request.match_info["name"]), request)

    async def _request(self, wiring: Wiring, request: web.Request) -> web.StreamResponse:
        host = self._host
        if "respond-async" in request.headers.get("Prefer", ""):
            return await self._send_to(wiring, request)
        form = streamed_as(request)
        key = request.headers.get("Idempotency-Key")
        if is_lines(request):
            return await self._many(request, wiring, form, key)
        item = wiring.checked(await read_item(request, host.limits))
        timeout_s = timeout_of(request)
        if form is not None:
            if key is not None:
                known = host.replays.find(key)
                if known is not None and known.digest == digest_of(wiring.name, item):
                    return await self._stream_kept(request, known, form, 0)
                host.replays.check_new(key)
            work = host.open(wiring, timeout_s, attributes_of(request))
            return await self._streamed(request, work, [item], form, key)
        if key is None:
            work = host.begin(wiring, item, timeout_s, attributes_of(request))
            return as_json(await host.answer(work), request_id=work.id)
        begun = host.begin_once(wiring, item, key, timeout_s, attributes_of(request))
        if isinstance(begun, Answer):
            await host.settled()
            return as_json(begun.result(), request_id=begun.request_id)
        return as_json(await host.answer(begun), request_id=begun.id)

    async def _send(self, request: web.Request) -> web.Response:
        return await self._send_to(self._host.stream(request.match_info["name"]), request)

    async def _send_to(self, wiring: Wiring, request: web.Request) -> web.Response:
        """Begin a request that nobody waits for, and say so once it is accepted."""
        host = self._host
        item = wiring.checked(await read_item(request, host.limits))
        timeout_s, key = timeout_of(request), request.headers.get("Idempotency-Key")
        if key is not None:
            begun = host.begin_once(wiring, item, key, timeout_s, attributes_of(request), sent=True)
            request_id = begun.id if isinstance(begun, Request) else begun.request_id
        else:
            request_id = host.begin_sent(wiring, item, timeout_s, attributes_of(request)).id
        await host.settled()
        answer = as_json({"request_id": request_id}, status=202, request_id=request_id)
        answer.headers["Location"] = f"/requests/{request_id}"
        return answer

    # -- many items, many replies

    async def _many(
        self, request: web.Request, wiring: Wiring, form: str | None, key: str | None
    ) -> web.StreamResponse:
        """Let the lines of a body in as they come; answer when, or while, they do."""
        host = self._host
        if key is not None:
            raise InvalidItemError(
                "lines of items are sent once: an Idempotency-Key goes with a single item; a Client can resume",
                stream=wiring.name,
            )
        work = host.feed(wiring, timeout_of(request), attributes_of(request))
        work.more().idle_since_s = host.now_s()
        feeding = host.run_task(self._feed(request, work), f"input of {work.id}")
        try:
            if form is not None:
                return await self._streamed(request, work, None, form, None)
            return as_json(await host.answer(work), request_id=work.id)
        finally:
            feeding.cancel()

    async def _feed(self, request: web.Request, work: Request) -> None:
        host, wiring = self._host, work.stream
        details = work.more()
        try:
            async for items in read_lines(request, host.limits):
                if work.state:
                    return
                details.idle_since_s = host.now_s()
                host.feed_items(work, items if wiring.check is None else list(map(wiring.checked, items)))
                await work.room()
        except ActorflowError as error:
            work.fail(error)
        except OSError:
            work.cancel("its caller left")
        except Exception as error:  # the library's, of a body that is not what its headers say
            work.fail(CodecError(f"the body cannot be read: {type(error).__name__}: {error}"))
        else:
            host.fed(work)

    async def _streamed(
        self, request: web.Request, work: Request, items: list[Any] | None, form: str, key: str | None
    ) -> web.StreamResponse:
        """Answer with replies while they come. items: what the request begins with, None when it has begun."""
        host = self._host
        work.stream_replies()
        if key is not None:
            digest = digest_of(work.stream.name, *items) if items else None
            replay = host.replays.begin(key, work, digest=digest)
            host.enter(work, items or [])
            return await self._stream_kept(request, replay, form, 0)
        if items is not None:
            host.enter(work, items)
        with _cancelled_with(work):
            try:
                return await _write_stream(request, work, form, _values_of(work), 0)
            finally:
                work.let_go_of_replies()

    # -- coming back for replies

    async def _replies(self, request: web.Request) -> web.StreamResponse:
        """Answer with the replies of a request that was begun with a key, from a number on."""
        name = request.match_info["id"]
        replay = self._host.replays.find(name)
        after = request.headers.get("Last-Event-ID")
        given = request.query.get("after", str(int(after) + 1) if after is not None and after.isdecimal() else "0")
        if not given.isdecimal() or len(given) > 18:
            raise InvalidItemError(f"after={given!r} is not the number of a reply")
        if replay is None:
            return as_json(await self._host.answer_of(name), request_id=name)
        return await self._stream_kept(request, replay, streamed_as(request) or LINES, int(given))

    async def _stream_kept(self, request: web.Request, replay: Replay, form: str, number: int) -> web.StreamResponse:
        replay.check(number)
        return await _write_stream(request, replay.request, form, _kept_values(replay, number), number)


async def _values_of(work: Request) -> AsyncIterator[list[Any]]:
    """Yield the replies of a request as they come."""
    assert isinstance(work.replies, ReplyQueue)
    while some := await work.replies.read():
        yield some


async def _kept_values(replay: Replay, number: int) -> AsyncIterator[list[Any]]:
    """Yield the replies that are kept, and those that still come."""
    read = replay.reading(number)
    while some := await read():
        yield some


async def _write_stream(
    request: web.Request, work: Request, form: str, replies: AsyncIterator[list[Any]], number: int
) -> web.StreamResponse:
    """Write replies as they come, numbered, and then the end; an error that comes at once has a status of its own."""
    details = work.more()
    host = work.host
    first = asyncio.ensure_future(anext(replies, None))
    try:
        await asyncio.wait({first}, timeout=HEADER_WAITS_S)
        if first.done():
            first.result()
        headers = {"Content-Type": form, "X-Request-Id": work.id, "Cache-Control": "no-store"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        try:
            some = await first
            while some:
                details.idle_since_s = host.now_s()
                if form == EVENTS:
                    numbered = enumerate(some, number)
                    data = b"".join(b"id: %d\nevent: reply\ndata: %b\n\n" % (n, dump(value)) for n, value in numbered)
                    number += len(some)
                else:
                    data = b"".join(dump(value) + b"\n" for value in some)
                await response.write(data)
                some = await anext(replies, None)
            if form == EVENTS:
                await response.write(b"event: end\ndata: {}\n\n")
        except ActorflowError as error:
            said = to_json(document_of(error))
            data = b"event: error\ndata: %b\n\n" % said if form == EVENTS else dump({"error": error.to_wire()}) + b"\n"
            await response.write(data)
        await response.write_eof()
        return response
    finally:
        first.cancel()  # whoever waited for it may have gone


def attributes_of(request: web.Request) -> dict[str, Any] | None:
    """Return what a caller sent along for operators to see: its trace, where it is part of one."""
    parent = request.headers.get("traceparent")
    return {"traceparent": parent} if parent is not None and len(parent) <= 256 else None


@contextlib.contextmanager
def _cancelled_with(work: Request) -> Iterator[None]:
    """Cancel a request when whoever reads its replies is cancelled, which is what a disconnect does."""
    try:
        yield
    except BaseException:
        if not work.state:
            work.cancel("its caller left")
        raise
