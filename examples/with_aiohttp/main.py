"""An aiohttp application in front of a host: a library that lends books and searches its shelves.

actorflow run examples.with_aiohttp.main:flow, and: python -m aiohttp.web -H localhost examples.with_aiohttp.main:make
curl -X POST -H 'Idempotency-Key: one' 'http://127.0.0.1:8080/books/emma/loans?timeout_s=2'
curl -N 'http://127.0.0.1:8080/search?word=The'
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import orjson
from aiohttp import web

from actorflow import ActorflowError, App, Client, DeadlineExceededError, Operator

TITLES = {"emma": "Emma", "time": "The Time Machine", "trial": "The Trial", "rare": "Ur-Hamlet"}


class UnknownBook(Exception): ...


class Desk(Operator):
    concurrency, loans = 10, 0

    async def process(self, book: str) -> str:
        if book not in TITLES:
            raise UnknownBook(f"there is no book {book!r}")
        await asyncio.sleep(3600 if book == "rare" else 0.01)  # it has to be found first
        self.loans += 1
        return f"loan {self.loans}: {TITLES[book]}"


flow = App("library")
lend = flow.stream("lend", str, str).then(Desk)
search = flow.stream("search", str, str, replies="many").flat_map(
    lambda word: [t for t in TITLES.values() if word in t]
)

CLIENT, STATUS = web.AppKey("client", Client), {UnknownBook: 404, DeadlineExceededError: 504}


async def client(app: web.Application) -> AsyncIterator[None]:
    async with Client(os.environ.get("ACTORFLOW_URL", "http://127.0.0.1:7700")) as app[CLIENT]:
        yield  # one client for all requests: it keeps one connection, and opens it again when it was lost


@web.middleware
async def errors(request: web.Request, handler: Callable[..., Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    try:
        return await handler(request)
    except ActorflowError as error:  # all that operators raise is one of them, and still of its own class
        otherwise = 503 if error.retryable or error.overloaded else 500
        status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), otherwise)
        return web.json_response({"detail": error.cause_text or error.message}, status=status)


async def post_loan(request: web.Request) -> web.Response:
    timeout_s, key = float(request.query.get("timeout_s", 30)), request.headers.get("Idempotency-Key")
    loan = await request.app[CLIENT].request(lend, request.match_info["book"], timeout_s=timeout_s, key=key)
    return web.json_response(loan)


async def get_titles(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    async with aclosing(request.app[CLIENT].stream(search, request.query["word"])) as titles:  # who leaves cancels
        await response.prepare(request)
        async for title in titles:
            await response.write(b"data: " + orjson.dumps(title) + b"\n\n")
    await response.write(b"event: end\ndata: {}\n\n")
    return response


def make(arguments: list[str]) -> web.Application:
    app = web.Application(middlewares=[errors])
    app.cleanup_ctx.append(client)
    app.add_routes([web.post("/books/{book}/loans", post_loan), web.get("/search", get_titles)])
    return app
