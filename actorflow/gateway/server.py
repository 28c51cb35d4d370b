"""The gateway: a host's door on a port, or on a socket of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import ssl
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from actorflow import wire
from actorflow.errors import ActorflowError
from actorflow.gateway.about import AboutRoutes
from actorflow.gateway.apps import AppRoutes
from actorflow.gateway.doorkeeper import Doorkeeper, OneLine
from actorflow.gateway.guard import Guard, check_exposure, is_loopback, tls_context
from actorflow.gateway.problems import problem, problem_of
from actorflow.gateway.requests import RequestRoutes
from actorflow.gateway.session import Session
from actorflow.gateway.state import StateRoutes
from actorflow.gateway.streams import StreamRoutes
from actorflow.plan.app import AppPlan
from actorflow.runtime.host import Host

if TYPE_CHECKING:
    from actorflow.deploy.deployer import Deployer

log = logging.getLogger("actorflow.gateway")

KEEPALIVE_S = 75.0
"""How long a connection without any request stays open."""

LINGER_S = 1.0
"""How long what is left of a body is read, when it has been answered already."""

BACKLOG = 2048
VARIABLE = re.compile("{[^}]*}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """Serves a host: HTTP for everybody, binary frames for clients, a page for people.

    address, port: where it listens; port 0 takes a free one.   unix: a path of a socket, in place of both.
    token: what every request must bring.   deployer, deploy_token: what deploys apps to the host, and what whoever
    deploys must bring (by default `token`).   certificate, key, client_ca: TLS, with certificates of clients if that is
    given. `url` says where it answers once it has started. Whoever listens on an address that is not loopback must ask
    for a token, or for certificates.

    Raises: ValueError otherwise, or when a certificate cannot be used.
    """

    def __init__(
        self,
        host: Host,
        *,
        address: str = "127.0.0.1",
        port: int = wire.PORT,
        unix: str | os.PathLike[str] | None = None,
        token: str | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        client_ca: Path | None = None,
        deployer: Deployer | None = None,
        deploy_token: str | None = None,
    ) -> None:
        if unix is None:
            check_exposure(address, token=token, client_ca=client_ca)
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = tls_context(certificate, key, client_ca)
        elif client_ca is not None or key is not None:
            raise ValueError("a key, or an authority for clients' certificates, needs a certificate of the host's own")
        self._host = host
        self._address, self._port = address, port
        self._unix = Path(unix) if unix is not None else None
        local = is_loopback(address) and unix is None and self._tls is None
        self._guard = Guard(token=token, local=local, deploy_token=deploy_token)
        self._secured = token is not None
        self._deployer, self._deploy_token = deployer, deploy_token or token
        self._apps: AppRoutes | None = None
        self._runner: web.AppRunner | None = None
        self._server: asyncio.AbstractServer | None = None
        self._opened: set[Doorkeeper] = set()
        self._sessions: set[Session] = set()
        self._paths: list[tuple[str, re.Pattern[str]]] = []
        self.url = ""

    async def start(self) -> None:
        """Begin to listen. Raises: OSError when the port, or the path, is taken."""
        host = self._host
        app = web.Application(client_max_size=host.limits.frame_bytes)
        rooms = (AboutRoutes(host, secured=self._secured), StreamRoutes(host), RequestRoutes(host), StateRoutes(host))
        routes = [*(route for room in rooms for route in room.routes()), web.get(wire.PATH, self._wire)]
        if self._deployer is not None and self._deploy_token:
            self._apps = AppRoutes(self._deployer, token=self._deploy_token)
            routes += self._apps.routes()
        app.add_routes(web.RouteDef(each.method, each.path, self._let_in(each.handler), each.kwargs) for each in routes)
        app.router.add_route("*", "/{path:.*}", self._let_in(self._nowhere))
        self._paths = [(each.method, re.compile(VARIABLE.sub("[^/]+", each.path))) for each in routes]
        self._runner = runner = web.AppRunner(
            app,
            access_log=None,
            logger=OneLine(log),
            handle_signals=False,
            shutdown_timeout=5.0,
            handler_cancellation=True,
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            auto_decompress=False,  # it would be unpacked to its end before anybody could say that it is too large
        )
        await runner.setup()
        try:
            self._server = await self._listen(self._make_protocol)
        except OSError:
            await runner.cleanup()
            raise
        scheme = "https" if self._tls is not None else "http"
        if self._unix is not None:
            self.url = f"unix://{self._unix}"
        else:
            bound = self._server.sockets[0].getsockname()
            name = bound[0] if ":" not in bound[0] else f"[{bound[0]}]"
            self.url = f"{scheme}://{name}:{bound[1]}"

    async def _listen(self, make: Callable[[], Doorkeeper]) -> asyncio.Server:
        loop = self._host.loop
        if self._unix is None:
            return await loop.create_server(make, self._address, self._port, ssl=self._tls, backlog=BACKLOG)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self._unix.stat().st_mode):
                raise FileExistsError(17, f"{self._unix} is there, and is no socket")
            if await _answers(self._unix):
                raise OSError(98, "somebody listens there")
            self._unix.unlink()  # whoever listened there is gone
        before = os.umask(0o177)  # for its owner alone, from the first moment on
        try:
            return await loop.create_unix_server(make, self._unix, ssl=self._tls, backlog=BACKLOG)
        finally:
            os.umask(before)

    def _make_protocol(self) -> Doorkeeper:
        runner = self._runner
        assert runner is not None
        assert runner.server is not None
        return Doorkeeper(self._host.loop, runner.server, self._opened)

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        if self._server is not None:
            self._server.close()
        for keeper in list(self._opened):
            keeper.close()
        for session in list(self._sessions):
            await session.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._apps is not None:
            await self._apps.settle()
        if self._server is not None and self._unix is not None:
            self._unix.unlink(missing_ok=True)
        self._server = None

    def _let_in(self, handler: Any) -> Handler:
        """Return a handler that refuses who may not come in, and turns errors into problem documents (RFC 9457).

        A middleware would do the same, and cost a twentieth of a short request.
        """
        refusal = self._guard.refusal

        async def let_in(request: web.Request) -> web.StreamResponse:
            try:
                refused = refusal(request)
                if refused is not None:
                    return refused
                answer: web.StreamResponse = await handler(request)
                return answer
            except ActorflowError as error:
                return problem_of(error)
            except (web.HTTPException, ValueError, ArithmeticError, LookupError, TypeError) as error:
                return self._refused(request, error)

        return let_in

    def _refused(self, request: web.Request, error: Exception) -> web.Response:
        """Return the answer to a request that could not be read. Raises: HTTPException for what is no error."""
        if isinstance(error, web.HTTPException):
            if error.status < 400:
                raise error
            detail = error.text or error.reason
            if error.status == 413:
                detail = f"the body is larger than {self._host.limits.frame_bytes} bytes, the limit"
            return problem(error.status, detail, error.reason.replace(" ", "") + "Error")
        log.warning("%s %s: %s: %s", request.method, request.path, type(error).__name__, _words(error))
        return problem(400, f"the request cannot be read: {type(error).__name__}", "BadRequestError")

    async def _nowhere(self, request: web.Request) -> web.Response:
        """Answer what no route is for."""
        allowed = sorted({method for method, path in self._paths if path.fullmatch(request.path)})
        if not allowed:
            return problem(404, f"there is nothing at {request.path[:200]}; / is a page", "NotFoundError")
        answer = problem(405, f"{request.path[:200]} takes {', '.join(allowed)}", "MethodNotAllowedError")
        answer.headers["Allow"] = ", ".join(allowed)
        return answer

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
    app: AppPlan,
    *,
    address: str = "127.0.0.1",
    port: int = wire.PORT,
    token: str | None = None,
    unix: str | os.PathLike[str] | None = None,
    **options: Any,
) -> AsyncIterator[Gateway]:
    """Run an app as a host with its door: `async with serving(app, port=0) as gateway: … gateway.url`."""
    host = Host(app, **options)
    gateway = Gateway(host, address=address, port=port, unix=unix, token=token)
    await host.start()
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.stop()
        await host.stop()


async def _answers(path: Path) -> bool:
    """Return whether somebody listens on a socket."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
