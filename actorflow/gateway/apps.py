"""Apps that are deployed to a running host, over HTTP: `/apps` and `/modules`."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from actorflow.deploy.registry import Form
from actorflow.errors import DeployError, InvalidItemError
from actorflow.gateway.bodies import as_json, read_bytes
from actorflow.gateway.problems import problem

if TYPE_CHECKING:
    from actorflow.deploy.deployer import Deployer

FORMS: dict[str, Form] = {
    "application/yaml": "yaml",
    "text/yaml": "yaml",
    "application/x-yaml": "yaml",
    "application/toml": "toml",
    "application/json": "json",
}
SPEC_TYPE = "application/vnd.actorflow.app+json"
"""A body with the text of a specification, and the digests of the modules that it names."""


CHANGES_MAX = 100
"""Changes that have begun, or wait for their turn: each has a specification in memory, with or without its client."""


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    spec: str
    form: Form = "yaml"
    modules: dict[str, str] = {}
    file: str = ""


_body = msgspec.json.Decoder(_Body)


class AppRoutes:
    """`/apps`, `/apps/{name}` and `/modules/{digest}`. Whatever changes something needs the token for deploying."""

    def __init__(self, deployer: Deployer, *, token: str) -> None:
        self._deployer = deployer
        self._changing: set[asyncio.Task[Any]] = set()
        self._token = token.encode()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/apps", self._list),
            web.get("/apps/{name}", self._one),
            web.put("/apps/{name}", self._guarded(self._deploy)),
            web.delete("/apps/{name}", self._guarded(self._undeploy)),
            web.post("/apps/{name}/versions/{number}", self._guarded(self._roll_back)),
            web.get("/modules/{digest}", self._has_module),
            web.put("/modules/{digest}", self._guarded(self._keep_module)),
        ]

    async def settle(self) -> None:
        """Wait for changes that have begun."""
        await asyncio.gather(*self._changing, return_exceptions=True)

    async def _to_its_end(self, change: Coroutine[Any, Any, Any]) -> Any:
        """Make a change, whether or not the client stays to hear of it. Raises: as the change; DeployError."""
        if len(self._changing) >= CHANGES_MAX:
            change.close()
            raise DeployError(f"{CHANGES_MAX} changes wait here for their turn: try again later")
        task = asyncio.ensure_future(change)
        self._changing.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._changing.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked has it, or is gone

    def _guarded(self, handler: Any) -> Any:
        async def guarded(request: web.Request) -> web.StreamResponse:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token):
                what = "this token is not it" if given else "no token was sent"
                said = (
                    f"deploying needs the token that the host said when it started, and {what}: export "
                    "ACTORFLOW_DEPLOY_TOKEN=… for the command, or send Authorization: Bearer …"
                )
                return problem(401, said, "UnauthorizedError")
            answer: web.StreamResponse = await handler(request)
            return answer

        return guarded

    async def _list(self, request: web.Request) -> web.Response:
        return as_json(self._deployer.list())

    async def _one(self, request: web.Request) -> web.Response:
        return as_json(self._deployer.about(request.match_info["name"]))

    async def _deploy(self, request: web.Request) -> web.Response:
        most = self._deployer.registry.limits.spec_bytes
        data = await read_bytes(request, 2 * most)
        if request.content_type == SPEC_TYPE:
            try:
                body = _body.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise InvalidItemError(f"the body is no specification with its modules: {error}") from None
        else:
            form = FORMS.get(request.content_type)
            if form is None:
                known = ", ".join((*FORMS, SPEC_TYPE))
                raise InvalidItemError(f"a specification comes as {known}, not as {request.content_type[:80]}")
            try:
                body = _Body(data.decode(), form)
            except UnicodeDecodeError as error:
                raise InvalidItemError(f"the specification is not UTF-8: {error}") from None
        name = request.match_info["name"]
        deploying = self._deployer.deploy(
            name, spec=body.spec, form=body.form, modules=body.modules, file=body.file[:200]
        )
        return as_json(await self._to_its_end(deploying))

    async def _undeploy(self, request: web.Request) -> web.Response:
        state = request.query.get("state", "keep")
        if state not in {"keep", "drop"}:
            raise InvalidItemError(f"state={state[:40]!r}: keep or drop")
        leaving = self._deployer.undeploy(request.match_info["name"], state=state == "drop")
        return as_json(await self._to_its_end(leaving))

    async def _roll_back(self, request: web.Request) -> web.Response:
        number = request.match_info["number"]
        if not number.isdecimal() or len(number) > 9:
            raise DeployError(f"{number[:40]!r} is no version: they have numbers")
        return as_json(await self._to_its_end(self._deployer.roll_back(request.match_info["name"], int(number))))

    async def _has_module(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        code = self._deployer.registry.module(digest)
        return as_json({"digest": digest, "bytes": len(code)})

    async def _keep_module(self, request: web.Request) -> web.Response:
        data = await read_bytes(request, self._deployer.registry.limits.module_bytes)
        new = self._deployer.registry.keep_module(request.match_info["digest"], data)
        return as_json({"digest": request.match_info["digest"], "new": new}, status=201 if new else 200)
