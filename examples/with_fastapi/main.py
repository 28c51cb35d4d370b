"""A FastAPI application in front of a host: a kitchen that takes orders, and serves a menu course by course.

actorflow run examples.with_fastapi.main:flow, and with fastapi and uvicorn: uvicorn examples.with_fastapi.main:web
curl --json '{"dish": "soup", "table": 3}' -H 'Idempotency-Key: one' 'http://127.0.0.1:8000/orders?timeout_s=2'
curl -N http://127.0.0.1:8000/courses/3
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from actorflow import ActorflowError, App, Client, DeadlineExceededError, Operator

SECONDS = {"soup": 0.01, "roast": 3600.0}


@dataclass
class Order:
    dish: str
    table: int


class SoldOut(Exception): ...


class Kitchen(Operator):
    concurrency = 10

    async def process(self, order: Order) -> str:
        if order.dish not in SECONDS:
            raise SoldOut(f"no {order.dish} today")
        await asyncio.sleep(SECONDS[order.dish])
        return f"{order.dish} for table {order.table}, order {self.request.id}"


flow = App("kitchen")
orders = flow.stream("orders", Order, str).then(Kitchen)
courses = flow.stream("courses", int, replies="many").flat_map(lambda n: [f"{c} for {n}" for c in ("soup", "cake")])


@asynccontextmanager
async def lifespan(web: FastAPI) -> AsyncIterator[None]:
    async with Client(os.environ.get("ACTORFLOW_URL", "http://127.0.0.1:7700")) as web.state.client:
        yield  # one client for all requests: it keeps one connection, and opens it again when it was lost


web = FastAPI(lifespan=lifespan)
STATUS = {SoldOut: 409, DeadlineExceededError: 504}


@web.exception_handler(ActorflowError)  # all that operators raise is one, and still of its own class
async def errors(request: Request, error: ActorflowError) -> JSONResponse:
    otherwise = 503 if error.retryable or error.overloaded else 500
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), otherwise)
    return JSONResponse({"detail": error.cause_text or error.message}, status)


@web.post("/orders")
async def post_order(order: Order, request: Request, timeout_s: float = 30.0) -> str:
    key = request.headers.get("Idempotency-Key")
    return await request.app.state.client.request(orders, order, timeout_s=timeout_s, key=key)


@web.get("/courses/{guests}")
async def get_courses(guests: int, request: Request) -> StreamingResponse:
    async def events() -> AsyncIterator[bytes]:
        async with aclosing(request.app.state.client.stream(courses, guests)) as served:  # who leaves cancels
            async for course in served:
                yield b"data: " + orjson.dumps(course) + b"\n\n"
        yield b"event: end\ndata: {}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
