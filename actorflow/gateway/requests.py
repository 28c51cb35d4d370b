"""Requests in flight and dead letters over HTTP: look at them, cancel, try again."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from actorflow.errors import UnknownStreamError
from actorflow.gateway.bodies import as_json, limit_of
from actorflow.runtime.dead_letters import DeadLetter
from actorflow.runtime.host import Host
from actorflow.runtime.looking import REQUESTS_SHOWN, REQUESTS_SHOWN_MAX, details_of, line_of, request_of, requests_of


class RequestRoutes:
    """`/requests` and `/dead-letters`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/requests", self._list),
            web.get("/requests/{id}", self._one),
            web.delete("/requests/{id}", self._cancel),
            web.get("/dead-letters", self._dead_letters),
            web.get("/dead-letters/{number}", self._dead_letter),
            web.post("/dead-letters/{number}/replay", self._replay),
            web.delete("/dead-letters/{number}", self._forget),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        limit = limit_of(request, REQUESTS_SHOWN, REQUESTS_SHOWN_MAX)
        found = requests_of(self._host, stream=request.query.get("stream"), limit=limit)
        return as_json([line_of(work) for work in found])

    async def _one(self, request: web.Request) -> web.Response:
        return as_json(details_of(request_of(self._host, request.match_info["id"])))

    async def _cancel(self, request: web.Request) -> web.Response:
        work = request_of(self._host, request.match_info["id"])
        work.cancel()
        await self._host.settled()
        return as_json({"id": work.id, "state": "cancelled"})

    async def _dead_letters(self, request: web.Request) -> web.Response:
        letters = self._host.dead_letters.list()[-limit_of(request, self._host.limits.dead_letters, 1_000_000) :]
        return as_json(list(map(self._shown, letters)))

    async def _dead_letter(self, request: web.Request) -> web.Response:
        return as_json(self._shown(self._host.dead_letters.get(_number(request))))

    def _shown(self, letter: DeadLetter) -> dict[str, Any]:
        return {**letter.to_wire(), "age_s": round(self._host.wall_s() - letter.at_s, 3)}

    async def _replay(self, request: web.Request) -> web.Response:
        request_id = self._host.dead_letters.replay(_number(request))
        await self._host.settled()
        return as_json({"request_id": request_id}, status=202)

    async def _forget(self, request: web.Request) -> web.Response:
        self._host.dead_letters.forget(number := _number(request))
        return as_json({"number": number, "state": "forgotten"})


def _number(request: web.Request) -> int:
    number = request.match_info["number"]
    if not number.isdecimal() or len(number) > 18:
        raise UnknownStreamError(f"there is no dead letter {number[:40]!r}: they have numbers")
    return int(number)
