"""What HTTP bodies say: JSON, lines of JSON, and server-sent events, each within limits."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
from aiohttp import web

from actorflow import codec
from actorflow.errors import CodecError, InvalidItemError
from actorflow.limits import Limits

JSON, LINES, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"
LINE_TYPES = frozenset({LINES, "application/ndjson", "application/jsonl", "application/json-lines"})

CODINGS = {"gzip": 31, "deflate": 15}
"""How bodies may be compressed, with what zlib wants to be told."""

PIECE_BYTES = 1 << 20

READ_TIMEOUT_S = 30.0
"""The longest time without a byte while a body is being sent."""


def dump(value: Any) -> bytes:
    """Return a value as JSON. Raises: CodecError where it has no JSON form."""
    try:
        return orjson.dumps(value, default=codec.plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise CodecError(f"the value has no JSON form: {error}") from error


def as_json(value: Any, *, status: int = 200, request_id: str | None = None) -> web.Response:
    """Return a value as an answer."""
    headers = {"X-Request-Id": request_id} if request_id is not None else None
    return web.Response(body=dump(value), status=status, content_type=JSON, headers=headers)


def is_lines(request: web.Request) -> bool:
    """Return whether a body is many items, one a line."""
    return request.content_type in LINE_TYPES


def streamed_as(request: web.Request) -> str | None:
    """Return how a caller wants to see replies while they come: LINES, EVENTS, or None for all of them at the end."""
    accept = request.headers.get("Accept", "")
    if EVENTS in accept:
        return EVENTS
    return LINES if any(each in accept for each in LINE_TYPES) else None


async def read_item(request: web.Request, limits: Limits) -> Any:
    """Return the one item that a body holds; none at all is null. Raises: CodecError."""
    body = await read_bytes(request, limits.frame_bytes)
    return _load(body, limits) if body else None


async def read_bytes(request: web.Request, most: int) -> bytes:
    """Return a body, unpacked where it came compressed. Raises: CodecError."""
    if request.content.is_eof():  # all of it is there, as of most: no time-out needs to be set up
        body = await request.read()
    else:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                body = await request.read()
        except TimeoutError:
            raise CodecError(f"the body did not come within {READ_TIMEOUT_S:g} s") from None
    if (unpacker := _unpacker_of(request)) is not None:
        body = b"".join(unpacker.unpacked(body, most=most))
        unpacker.check_end()
    if len(body) > most:
        raise CodecError(f"the body is larger than {most} bytes, the limit")
    return body


async def read_lines(request: web.Request, limits: Limits) -> AsyncIterator[list[Any]]:
    """Yield the items of a body of lines, as many at a time as have come. Empty lines are left out.

    Raises: CodecError, naming the line; when a line is longer than a frame may be; when nothing comes for too long.
    """
    number, rest = 0, b""
    unpacker = _unpacker_of(request)
    chunks = request.content.iter_any()
    while True:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise CodecError(f"nothing came after line {number} for {READ_TIMEOUT_S:g} s") from None
        if chunk is None:
            break
        for piece in (chunk,) if unpacker is None else unpacker.unpacked(chunk):
            lines = (rest + piece if rest else piece).split(b"\n")
            rest = lines.pop()
            if len(rest) > limits.frame_bytes:
                raise CodecError(f"line {number + len(lines) + 1} is longer than {limits.frame_bytes} bytes, the limit")
            if lines:
                yield _items(lines, number, limits)
                number += len(lines)
    if unpacker is not None:
        unpacker.check_end()
    if rest:
        yield _items([rest], number, limits)


class _Unpacker:
    """Unpacks a compressed body piece by piece, so that nobody has more of it in memory than is allowed."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._unpack = zlib.decompressobj(CODINGS[coding])

    def unpacked(self, data: bytes, *, most: int | None = None) -> Iterator[bytes]:
        """Yield what some bytes become; no more than `most` in all. Raises: CodecError."""
        total = 0
        while data:
            if self._unpack.eof:  # a body may be of several parts, one behind the other
                if self._coding != "gzip":
                    raise CodecError(f"the body goes on behind its end, as {self._coding}")
                self._unpack = zlib.decompressobj(CODINGS[self._coding])
            try:
                piece = self._unpack.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise CodecError(f"the body is not compressed as its header says: {error}") from None
            total += len(piece)
            if most is not None and total > most:
                raise CodecError(f"the body unpacks to more than {most} bytes, the limit")
            yield piece
            data = self._unpack.unused_data if self._unpack.eof else self._unpack.unconsumed_tail

    def check_end(self) -> None:
        """Refuse a body that is cut short. Raises: CodecError."""
        if not self._unpack.eof:
            raise CodecError("the body ends before all of it has come, as its compression says")


def _unpacker_of(request: web.Request) -> _Unpacker | None:
    """Return what unpacks a body; None where it is not compressed. Raises: CodecError."""
    coding = request.headers.get("Content-Encoding", "identity").lower()
    if coding == "identity":
        return None
    if coding not in CODINGS:
        raise CodecError(f"bodies may be compressed as {' or '.join(CODINGS)}, not {coding[:40]!r}")
    return _Unpacker(coding)


def _items(lines: list[bytes], before: int, limits: Limits) -> list[Any]:
    """Return the items of complete lines."""
    loads, most = orjson.loads, limits.nesting_depth
    try:
        items = [loads(line) for line in lines if line and not line.isspace()]
        if all(len(line) <= most or line.count(b"[") + line.count(b"{") <= most for line in lines):
            return items
    except orjson.JSONDecodeError:
        pass
    items = []
    for number, line in enumerate(lines, before + 1):  # which one it was is asked only now
        if line and not line.isspace():
            try:
                items.append(_load(line, limits))
            except CodecError as error:
                raise CodecError(f"line {number}: {error}") from None
    return items


def _load(body: bytes, limits: Limits) -> Any:
    opened = body.count(b"{") + body.count(b"[") if len(body) > limits.nesting_depth else 0
    if opened > codec.CONTAINERS_MAX:
        raise CodecError(f"the body holds more than {codec.CONTAINERS_MAX} arrays and objects")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise CodecError(f"the body is not JSON: {error}") from None
    if opened > limits.nesting_depth and _is_deep(value, limits.nesting_depth):
        raise CodecError(f"the body nests deeper than {limits.nesting_depth} arrays and objects, the limit")
    return value


def _is_deep(value: Any, most: int) -> bool:
    """Return whether there are more arrays and objects within one another than allowed; a level at a time."""
    level = [value]
    for _ in range(most + 1):
        level = [
            part
            for each in level
            if isinstance(each, (list, dict))
            for part in (each.values() if isinstance(each, dict) else each)
            if isinstance(part, (list, dict))
        ]
        if not level:
            return False
    return True


def timeout_of(request: web.Request) -> float | None:
    """Return the deadline that a caller gives. Raises: InvalidItemError."""
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


def limit_of(request: web.Request, default: int, most: int) -> int:
    """Return how many a caller wants to see at the most. Raises: InvalidItemError."""
    given = request.query.get("limit", str(default))
    if not given.isdecimal() or not 0 < int(given[:9]) <= most:
        raise InvalidItemError(f"limit={given!r} is not a whole number from 1 to {most}")
    return int(given)
