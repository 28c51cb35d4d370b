"""The first moments of a connection: until its first header is complete, within limits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("actorflow.gateway")

HEADER_TIMEOUT_S = 10.0
HEADER_BYTES_MAX = 32 * 1024
_TLS_HANDSHAKE = b"\x16\x03"
_METHODS = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"PATCH ", b"OPTIONS ")
_LONGEST_METHOD = max(map(len, _METHODS))


class Doorkeeper(asyncio.Protocol):
    """Takes a connection until its first header is there, and gives it to HTTP then.

    What is no HTTP, comes too slowly or is too long is closed, with one line in the log: a library's parser would
    write a traceback, and wait for the rest of a header for ever.
    """

    __slots__ = ("_began", "_loop", "_make", "_opened", "_timer", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[], asyncio.Protocol], opened: set[Any]) -> None:
        self._loop = loop
        self._make = make
        self._opened = opened
        self._began = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # a stream's
        self._opened.add(self)
        self._timer = self._loop.call_later(HEADER_TIMEOUT_S, self._too_slow)

    def data_received(self, data: bytes) -> None:
        before = len(self._began)
        self._began += data
        if before < _LONGEST_METHOD and not self._looks_like_http():
            return
        if self._began.find(b"\r\n\r\n", max(before - 3, 0)) >= 0:
            self._hand_over()
        elif len(self._began) > HEADER_BYTES_MAX:
            self._refuse("431 Request Header Fields Too Large", f"its header is longer than {HEADER_BYTES_MAX} bytes")

    def _looks_like_http(self) -> bool:
        began = self._began
        if began.startswith(_TLS_HANDSHAKE):
            self._close("TLS on a plain port: start the host with --tls-cert, or use http://")
        elif not any(began.startswith(method) or method.startswith(began) for method in _METHODS):
            self._refuse("400 Bad Request", "what it sent is no HTTP")
        else:
            return True
        return False

    def _hand_over(self) -> None:
        transport, began = self._transport, self._began
        assert transport is not None
        self._leave()
        protocol = self._make()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(began)

    def _too_slow(self) -> None:
        if self._began:
            self._refuse("408 Request Timeout", f"its header was not complete after {HEADER_TIMEOUT_S:g} s")
        else:
            self._close(None)

    def _refuse(self, status: str, why: str) -> None:
        if self._transport is not None:
            body = f"{why}\n".encode()
            head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close"
            self._transport.write(head.encode() + b"\r\n\r\n" + body)
        self._close(why)

    def _close(self, why: str | None) -> None:
        transport = self._transport
        if transport is None:
            return
        if why is not None:
            log.warning("closed a connection from %s: %s", peer_of(transport), why)
        self._leave()
        transport.close()

    def _leave(self) -> None:
        self._opened.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._transport = None
        self._began = b""

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def close(self) -> None:
        """Close the connection: the door is being closed."""
        self._close(None)


class OneLine(logging.LoggerAdapter[logging.Logger]):
    """Has the HTTP library say of each bad request one line, without a traceback."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        error = kwargs.pop("exc_info", None)
        if isinstance(error, BaseException):
            words = " ".join(str(error).split())[:200]
            msg = f"{msg}: {type(error).__name__}: {words}"
        return msg, kwargs

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log what was the caller's fault, or the handler's, in one line."""
        self.warning(msg, *args, **kwargs)


def peer_of(transport: asyncio.BaseTransport) -> str:
    """Return whose connection it is."""
    peer = transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) > 1 else "a local socket"
