"""What a host says of itself: health, metrics, its streams and their graphs, and the page for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web

from actorflow import dashboard
from actorflow.errors import InvalidItemError
from actorflow.gateway.bodies import as_json
from actorflow.gateway.metrics import CONTENT_TYPE, HostMetrics
from actorflow.gateway.openapi import document, example_of, schema_of
from actorflow.plan.check_cells import purity_of
from actorflow.plan.draw import to_json, to_mermaid, to_svg
from actorflow.runtime.host import Host
from actorflow.runtime.looking import host_of, streams_of

PAGE = Path(dashboard.__file__).parent
CONTENT_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class AboutRoutes:
    """`/`, `/healthz`, `/readyz`, `/metrics`, `/ps`, `/streams`, `/graph`, `/openapi.json`."""

    def __init__(self, host: Host, *, secured: bool) -> None:
        self._host = host
        self._secured = secured
        self._edition = -1  # of what is known of the streams
        self._known: dict[str, dict[str, Any]] = {}
        self._files = {path.name: path for path in PAGE.iterdir() if path.suffix in CONTENT_TYPES}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/", self._page),
            web.get("/page/{file}", self._page),
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics),
            web.get("/ps", self._ps),
            web.get("/streams", self._streams),
            web.get("/graph", self._graphs),
            web.get("/graph/{name}", self._graph),
            web.get("/openapi.json", self._openapi),
        ]

    async def _page(self, request: web.Request) -> web.Response:
        path = self._files.get(request.match_info.get("file", "index.html"))
        if path is None:
            raise web.HTTPNotFound(text="the page has no such file")
        kind = CONTENT_TYPES[path.suffix]
        return web.Response(body=path.read_bytes(), content_type=kind, charset="utf-8", headers=PAGE_HEADERS)

    async def _healthz(self, request: web.Request) -> web.Response:
        return as_json({"status": "draining" if self._host.draining else "ok", "host": self._host.name})

    async def _readyz(self, request: web.Request) -> web.Response:
        host = self._host
        failed = [wiring.name for wiring in host.wirings.values() if wiring.failed is not None]
        why = "draining" if host.draining else f"streams that failed: {', '.join(failed)}" if failed else "ready"
        return as_json({"status": why, "host": host.name}, status=200 if why == "ready" else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=HostMetrics(self._host).text(), headers={"Content-Type": CONTENT_TYPE})

    async def _ps(self, request: web.Request) -> web.Response:
        return as_json(host_of(self._host))

    async def _streams(self, request: web.Request) -> web.Response:
        known = self._of_streams()
        return as_json([told | known[told["name"]] for told in streams_of(self._host)])

    def _of_streams(self) -> dict[str, dict[str, Any]]:
        """Return what does not change of each stream until it is replaced."""
        host = self._host
        if self._edition != host.changes.edition:
            self._edition, purity = host.changes.edition, purity_of(host.app)
            self._known = {}
            for name, topology in host.app.streams.items():
                schema = schema_of(topology.request_type)
                self._known[name] = {"pure": purity[name].pure, "schema": schema, "example": example_of(schema)}
        return self._known

    async def _graphs(self, request: web.Request) -> web.Response:
        return as_json([to_json(topology) for topology in self._host.app.streams.values()])

    async def _graph(self, request: web.Request) -> web.Response:
        topology = self._host.app[request.match_info["name"]].topology
        form = request.query.get("form", "json")
        if form == "json":
            return as_json(to_json(topology))
        if form == "svg":
            return web.Response(text=to_svg(topology), content_type="image/svg+xml")
        if form == "mermaid":
            return web.Response(text=to_mermaid(topology), content_type="text/plain")
        raise InvalidItemError(f"form is json, svg or mermaid, not {form!r}")

    async def _openapi(self, request: web.Request) -> web.Response:
        url = f"{request.scheme}://{request.host}"
        return as_json(document(self._host.app, url=url, secured=self._secured))
