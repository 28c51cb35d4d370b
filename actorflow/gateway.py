"""The door: HTTP for everybody and binary frames for clients, on one port."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from actorflow import codec, wire
from actorflow.errors import (
    ActorflowError,
    CodecError,
    DeadlineExceededError,
    HostStoppingError,
    InvalidItemError,
    LimitError,
    ProtocolError,
    ReplicaFailedError,
    RequestCancelledError,
    RequestError,
    StoreError,
    TooManyRequestsError,
    UnknownStreamError,
)
from actorflow.metrics import CONTENT_TYPE, HostMetrics
from actorflow.plan.app import AppPlan
from actorflow.plan.check_cells import matrix
from actorflow.runtime.answers import Answer
from actorflow.runtime.host import Host
from actorflow.runtime.reading import LIMIT, list_cells, list_locks, parse_key, read_cell, read_range
from actorflow.runtime.request import UNSET, ReplyQueue, Request
from actorflow.session import Session

log = logging.getLogger("actorflow.gateway")

STATUS: tuple[tuple[type[ActorflowError], int], ...] = (
    (UnknownStreamError, 404),
    (InvalidItemError, 422),
    (CodecError, 400),
    (ProtocolError, 400),
    (DeadlineExceededError, 504),
    (TooManyRequestsError, 429),
    (LimitError, 503),
    (HostStoppingError, 503),
    (ReplicaFailedError, 503),
    (RequestCancelledError, 409),
    (StoreError, 503),
    (RequestError, 500),
)
RETRY_AFTER_S = "1"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """Serves a host on a port: `POST /streams/{name}`, `GET /streams`, dead letters, `/healthz`, `/metrics`, `/wire`.

    port 0 takes a free one; `url` says which once it has started. A token is required for any address that is not
    loopback. Raises: ValueError without one.
    """

    def __init__(self, host: Host, *, address: str = "127.0.0.1", port: int = 7700, token: str | None = None) -> None:
        if token is None and not _is_loopback(address):
            raise ValueError(
                f"refusing to listen on {address} without a token: anybody could send requests; "
                "give --token-file (or ACTORFLOW_TOKEN), or listen on 127.0.0.1"
            )
        self._host = host
        self._address = address
        self._port = port
        self._token = token
        self._runner: web.AppRunner | None = None
        self._sessions: set[Session] = set()
        self.url = ""

    async def start(self) -> None:
        """Begin to listen. Raises: OSError when the port is taken."""
        app = web.Application(client_max_size=self._host.limits.frame_bytes, middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/metrics", self._metrics),
                web.get("/streams", self._streams),
                web.post("/streams/{name}", self._post),
                web.get("/check", self._check),
                web.get("/cells", self._cells),
                web.get("/cells/{name}", self._cell),
                web.get("/cells/{name}/{key:.+}", self._cell),
                web.get("/locks", self._locks),
                web.get("/dead-letters", self._dead_letters),
                web.post("/dead-letters/{number}/replay", self._replay),
                web.get("/requests/{id}", self._request),
                web.delete("/requests/{id}", self._cancel),
                web.get(wire.PATH, self._wire),
            ]
        )
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=5.0, handler_cancellation=True
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._address, self._port)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        bound = self._runner.addresses[0]
        self.url = f"http://{bound[0] if ':' not in bound[0] else '[' + bound[0] + ']'}:{bound[1]}"

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        for session in list(self._sessions):
            await session.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # -- handlers

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check the token; turn errors into problem documents (RFC 9457)."""
        if self._token is not None and request.path != "/healthz":
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token.encode()):
                return _problem(401, "a valid token is needed: Authorization: Bearer …", "UnauthorizedError")
        try:
            return await handler(request)
        except ActorflowError as error:
            return problem_of(error)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            detail = error.text or error.reason
            if error.status == 413:
                detail = f"the body is larger than {self._host.limits.frame_bytes} bytes, the limit"
            return _problem(error.status, detail, error.reason.replace(" ", "") + "Error")
        except (ValueError, ArithmeticError, LookupError, TypeError) as error:
            log.warning("%s %s: %s: %s", request.method, request.path, type(error).__name__, error)
            return _problem(400, f"the request cannot be read: {type(error).__name__}", "BadRequestError")

    async def _healthz(self, request: web.Request) -> web.Response:
        return _json({"status": "draining" if self._host.draining else "ok", "host": self._host.name})

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=HostMetrics(self._host).text(), headers={"Content-Type": CONTENT_TYPE})

    async def _streams(self, request: web.Request) -> web.Response:
        return _json(
            [
                {
                    "name": wiring.name,
                    "replies": wiring.replies,
                    "timeout_s": wiring.timeout_s,
                    "in_flight": wiring.in_flight,
                    "steps": [step.name for step in wiring.topology.steps],
                }
                for wiring in self._host.wirings.values()
            ]
        )

    async def _post(self, request: web.Request) -> web.StreamResponse:
        host = self._host
        wiring = host.stream(request.match_info["name"])
        body = await request.read()
        if body.count(b"{") + body.count(b"[") > codec.CONTAINERS_MAX:
            raise CodecError(f"the body holds more than {codec.CONTAINERS_MAX} arrays and objects")
        try:
            item = orjson.loads(body or b"null")
        except orjson.JSONDecodeError as error:
            raise CodecError(f"the body is not JSON: {error}") from None
        timeout_s = _timeout(request)
        item = wiring.checked(item)
        if (key := request.headers.get("Idempotency-Key")) is not None:
            begun = host.begin_once(wiring, item, key, timeout_s)
            if isinstance(begun, Answer):
                await self._host.settled()
                return _json(begun.result())
            return _json(await host.answer(begun), request_id=begun.id)
        if wiring.replies == "many" and "application/x-ndjson" in request.headers.get("Accept", ""):
            work = host.open(wiring, timeout_s)
            assert work.replies is not None
            work.replies.streamed = True  # before the first reply: who makes them waits for who reads them
            host.enter(work, [item])
            return await self._stream_replies(request, work)
        work = host.begin(wiring, item, timeout_s)
        return _json(await host.answer(work), request_id=work.id)

    async def _stream_replies(self, request: web.Request, work: Request) -> web.StreamResponse:
        assert isinstance(work.replies, ReplyQueue)
        with _cancelled_with(work):
            some = await work.replies.read()  # an error before the first reply still has its own status
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "X-Request-Id": work.id})
            await response.prepare(request)
            try:
                while some:
                    await response.write(b"".join(_dump(value) + b"\n" for value in some))
                    some = await work.replies.read()
            except ActorflowError as error:
                await response.write(_dump({"error": error.to_wire()}) + b"\n")
        await response.write_eof()
        return response

    # -- shared state

    async def _check(self, request: web.Request) -> web.Response:
        return _json(matrix(self._host.app))

    async def _cells(self, request: web.Request) -> web.Response:
        return await self._told(list_cells(self._host))

    async def _locks(self, request: web.Request) -> web.Response:
        return await self._told(list_locks(self._host))

    async def _cell(self, request: web.Request) -> web.Response:
        """Answer with one entry, with a range of a cell that has keys, or with what one without keys holds."""
        host, name = self._host, request.match_info["name"]
        text = request.match_info.get("key")
        if text is not None:
            return await self._told(read_cell(host, name, parse_key(host, name, text)))
        query = request.query
        cell = host.app.cells.get(name)
        if cell is not None and (cell.space is None or cell.kind == "value"):
            return await self._told(read_cell(host, name))
        limit = query.get("limit", str(LIMIT))
        if not limit.isdecimal():
            raise InvalidItemError(f"limit={limit!r} is not a whole number")
        start, end = (parse_key(host, name, query[side]) if side in query else UNSET for side in ("start", "end"))
        found = read_range(host, name, start=start, end=end, limit=int(limit))
        return await self._told([{"key": key, "value": value} for key, value in found])

    async def _told(self, value: Any) -> web.Response:
        """Answer with what is committed, when it is durable, too."""
        response = _json(value)
        await self._host.settled()
        return response

    async def _dead_letters(self, request: web.Request) -> web.Response:
        return _json([letter.to_wire() for letter in self._host.dead_letters.list()])

    async def _replay(self, request: web.Request) -> web.Response:
        number = request.match_info["number"]
        if not number.isdecimal():
            raise UnknownStreamError(f"there is no dead letter {number!r}: they have numbers")
        return _json({"request_id": self._host.dead_letters.replay(int(number))}, status=202)

    async def _request(self, request: web.Request) -> web.Response:
        work = self._find(request)
        return _json(
            {
                "id": work.id,
                "stream": work.stream.name,
                "state": "running",
                "outstanding": work.outstanding(),
                "loops": [loop.to_wire() for loop in work.loops()],
                "deadline_in_s": round(work.deadline_s - self._host.now_s(), 3),
            }
        )

    async def _cancel(self, request: web.Request) -> web.Response:
        work = self._find(request)
        work.cancel()
        return _json({"id": work.id, "state": "cancelled"})

    def _find(self, request: web.Request) -> Request:
        wanted = request.match_info["id"]
        work = self._host.find(wanted)
        if work is None:
            raise UnknownStreamError(f"no request {wanted!r} is in flight here")
        return work

    async def _wire(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            max_msg_size=self._host.limits.frame_bytes, heartbeat=20.0, compress=False, autoping=True
        )
        with contextlib.suppress(ConnectionError):  # it may be gone already
            await socket.prepare(request)
        if not socket.prepared:
            return web.Response(status=400)
        session = Session(self._host, socket)
        self._sessions.add(session)
        try:
            async for message in socket:
                if message.type is not WSMsgType.BINARY:
                    await session.refuse("only binary messages are understood here")
                    break
                if not await session.receive(message.data):
                    break
        finally:
            self._sessions.discard(session)
            await session.close()
        return socket


@contextlib.asynccontextmanager
async def serving(
    app: AppPlan, *, address: str = "127.0.0.1", port: int = 7700, token: str | None = None, **options: Any
) -> AsyncIterator[Gateway]:
    """Run an app as a host with its door: `async with serving(app, port=0) as gateway: … gateway.url`."""
    host = Host(app, **options)
    gateway = Gateway(host, address=address, port=port, token=token)
    await host.start()
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.stop()
        await host.stop()


@contextlib.contextmanager
def _cancelled_with(work: Request) -> Any:
    """Cancel a request when whoever reads its replies is cancelled, which is what a disconnect does."""
    try:
        yield
    except BaseException:
        work.cancel("its caller left")
        raise


def _timeout(request: web.Request) -> float | None:
    given = request.query.get("timeout_s")
    if given is None:
        return None
    try:
        timeout_s = float(given)
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s < float("inf"):
        raise InvalidItemError(f"timeout_s={given!r} is not a positive number of seconds")
    return timeout_s


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _dump(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=codec.plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise CodecError(f"the reply has no JSON form: {error}") from error


def _json(value: Any, *, status: int = 200, request_id: str | None = None) -> web.Response:
    headers = {"X-Request-Id": request_id} if request_id is not None else None
    return web.Response(body=_dump(value), status=status, content_type="application/json", headers=headers)


def problem_of(error: ActorflowError) -> web.Response:
    """Return an error as a problem document with its status."""
    status = next((code for kind, code in STATUS if isinstance(error, kind)), 500)
    wire_form = error.to_wire()
    return _problem(status, wire_form.pop("message"), wire_form.pop("type"), **wire_form)


def _problem(status: int, detail: str, kind: str, **fields: Any) -> web.Response:
    headers = {"Retry-After": RETRY_AFTER_S} if status in {429, 503} else None
    body = {"type": f"urn:actorflow:{kind}", "title": kind, "status": status, "detail": detail, **fields}
    data = json.dumps(body, default=repr).encode() if _has_surrogates(detail) else _dump(body)
    return web.Response(body=data, status=status, content_type="application/problem+json", headers=headers)


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
