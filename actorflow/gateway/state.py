"""Shared state over HTTP, as it is committed and durable, and what the checker says of it."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from actorflow.gateway.bodies import as_json, limit_of
from actorflow.plan.check_cells import matrix
from actorflow.runtime.host import Host
from actorflow.runtime.reading import LIMIT, LIMIT_MAX, list_cells, list_locks, parse_key, read_cell, read_range
from actorflow.runtime.request import UNSET


class StateRoutes:
    """`/cells`, `/locks` and `/check`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/check", self._check),
            web.get("/cells", self._cells),
            web.get("/cells/{name}", self._cell),
            web.get("/cells/{name}/{key:.+}", self._cell),
            web.get("/locks", self._locks),
        ]

    async def _check(self, request: web.Request) -> web.Response:
        return as_json(matrix(self._host.app))

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
        limit = limit_of(request, LIMIT, LIMIT_MAX)
        start, end = (parse_key(host, name, query[side]) if side in query else UNSET for side in ("start", "end"))
        found = read_range(host, name, start=start, end=end, limit=limit)
        return await self._told([{"key": key, "value": value} for key, value in found])

    async def _told(self, value: Any) -> web.Response:
        """Answer with what is committed, when it is durable, too."""
        response = as_json(value)
        await self._host.settled()
        return response
