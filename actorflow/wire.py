"""What clients and hosts say to each other: frames on a WebSocket at `/wire`.

A binary message is a MessagePack array of frames, and a frame is an array that begins with its kind:

    client → host                                         host → client
    HELLO    [0, version, codec]                          WELCOME  [16, version, memory, frame_bytes]
    REQUEST  [1, id, stream, item, timeout_s, attrs, mode, REPLY    [17, id, value]          the end, with the reply
              key]
    ITEMS    [2, id, [item, …]]                           VALUES   [18, id, [value, …]]     streamed replies
    END      [3, id]              no more items           DONE     [19, id]                 the end of streamed replies
    CREDIT   [4, id, count]       values may follow       ERROR    [20, id, error]          the end, badly
    CANCEL   [5, id]                                      ACCEPTED [21, id, request id, items taken]
    ASK      [6, id, verb, argument]                      ROOM     [22, id, count]          items may follow
    FORGET   [7, [key, …]]        answers that have come  PROGRESS [23, id, outstanding, elapsed_s, [loop, …],
    ATTACH   [8, id, key or request id, after]                      request id]

`memory` names what a host remembers ("store:…" with a store, and the same after a restart): as long as it is the same,
whoever asks again with the key of a request gets the one answer. `key` is nil where nobody will ask again. `id` is the
client's number for an exchange; `mode` is one of MODES. ATTACH goes on with a request that was begun under a key: with
its one answer, or with its streamed replies from the number `after` on; ACCEPTED then says how many of its items have
come, and those behind them are sent again. Values are plain MessagePack; a client that says "tagged" in
HELLO also sends and receives the extensions of `actorflow.codec`, so that tuples, sets and declared types arrive as
what they were. `ASK` verbs: "cancel" (a request id), "dead_letters" (nil), "replay" (a number), "cells" (nil),
"cell" ([name, key]), "locks" (nil), "ps" (nil), "streams" (nil), "requests" ([stream or nil, limit]), "request" (a
request id), "forget_dead_letter" (a number), "range" ([name, start, end, limit]), "state" ([name, key, start, end,
limit], with keys as text).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from actorflow import codec
from actorflow.errors import CodecError, ProtocolError, summary

VERSION: Final = 3
PORT: Final = 7700
PATH: Final = "/wire"
DURABLE: Final = "store:"
"""How the memory of a host with a store is named."""

HELLO, REQUEST, ITEMS, END, CREDIT, CANCEL, ASK, FORGET, ATTACH = range(9)
WELCOME, REPLY, VALUES, DONE, ERROR, ACCEPTED, ROOM, PROGRESS = range(16, 24)
UNREADABLE: Final = -1
"""Never sent: what stands in place of a frame that could not be read."""

FRAMES_MAX: Final = 100_000
"""Frames of one message, where they must be read one by one."""

ONE, SEND, STREAM, WATCHED, OWN_STREAM = "one", "send", "stream", "watched", "own-stream"
MODES: Final = (ONE, SEND, STREAM, WATCHED, OWN_STREAM)
"""ask for one reply; send and await no reply; stream items in and replies out; as "one", with PROGRESS frames; as
"stream", with a key that only this client knows, so that the request ends when its client does not come back."""

ITEMS_AHEAD: Final = 1024
"""Items, or values, that one side may send before the other has made room for more."""

MESSAGE_BYTES: Final = 16 << 20
"""One message at the most, unless a host sets another limit."""

FLUSH_BYTES: Final = 4 << 10
"""Frames of so many bytes leave before the end of a turn."""

HEAD_BYTES: Final = 5
"""Of a message, at the most, beside its frames."""

_encode = msgspec.msgpack.Encoder(enc_hook=codec.plain).encode

_SHAPES: dict[int, tuple[type | tuple[type, ...], ...]] = {
    HELLO: (int, str),
    REQUEST: (int, str, object, (int, float, type(None)), (dict, type(None)), str, (str, type(None))),
    ITEMS: (int, list),
    END: (int,),
    CREDIT: (int, int),
    CANCEL: (int,),
    ASK: (int, str, object),
    FORGET: (list,),
    ATTACH: (int, str, int),
    WELCOME: (int, str, int),
    REPLY: (int, object),
    VALUES: (int, list),
    DONE: (int,),
    ERROR: ((int, type(None)), dict),
    ACCEPTED: (int, str, int),
    ROOM: (int, int),
    PROGRESS: (int, int, (int, float), list, str),
}


def is_durable(memory: str | None) -> bool:
    """Return whether what a host remembers outlives its process."""
    return memory is not None and memory.startswith(DURABLE)


def pack_frame(frame: list[Any], *, tagged: bool) -> bytes:
    """Encode a frame. Raises: CodecError when a value in it cannot travel."""
    if tagged:
        return codec.encode(frame)
    try:
        return _encode(frame)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError(f"cannot encode a reply: {error}") from error


def pack(frames: list[list[Any]], *, tagged: bool) -> bytes:
    """Encode frames as one message. Raises: CodecError when a value in one cannot travel."""
    return message_of([pack_frame(frame, tagged=tagged) for frame in frames])


def message_of(packed: list[bytes]) -> bytes:
    """Return the message that holds frames which are encoded already."""
    count = len(packed)  # the shortest head there is: what is written otherwise is looked at more closely
    if count < 16:
        head = bytes((0x90 + count,))
    else:
        head = b"\xdc" + count.to_bytes(2, "big") if count < 1 << 16 else b"\xdd" + count.to_bytes(4, "big")
    return head + b"".join(packed)


def unpack(data: bytes, *, nesting_depth: int, from_client: bool) -> list[list[Any]]:
    """Decode and check a message: every frame is of a known kind and shape.

    Raises: CodecError for malformed bytes; ProtocolError for what is no frame.
    """
    try:
        frames = codec.decode_untrusted(data, nesting_depth=nesting_depth)
    except CodecError as error:
        frames = _one_by_one(data, nesting_depth, error)
    if type(frames) is not list:
        raise ProtocolError(f"a message is an array of frames, not {summary(frames)}")
    low, high = (HELLO, ATTACH) if from_client else (WELCOME, PROGRESS)
    for frame in frames:
        if type(frame) is Unreadable:
            continue
        if type(frame) is not list or not frame or type(frame[0]) is not int or not low <= frame[0] <= high:
            raise ProtocolError(f"not a frame: {summary(frame)}")
        if not _fits(frame):
            count = len(_SHAPES[frame[0]])
            raise ProtocolError(f"a frame of kind {frame[0]} has {count} fields of set types: {summary(frame)}")
    return frames


class Unreadable(list[Any]):
    """In place of a frame that could not be read: `[UNREADABLE, id, CodecError]`. Only its exchange suffers from it."""


def _one_by_one(data: bytes, nesting_depth: int, error: CodecError) -> list[Any]:
    """Read the frames of a message each for itself. Raises: CodecError when it is no array of frames."""
    count = _count_of(data)
    try:
        parts = _parts(data) if count is not None and count <= FRAMES_MAX else None
    except (msgspec.DecodeError, RecursionError):
        parts = None
    if parts is None:
        raise error
    frames: list[Any] = []
    left = codec.CONTAINERS_MAX
    for part in map(bytes, parts):
        left -= codec.containers_at_most(part)
        try:
            if left < 0:
                raise CodecError(f"a message holds more than {codec.CONTAINERS_MAX} arrays and maps")
            frames.append(codec.decode_untrusted(part, nesting_depth=nesting_depth))
        except CodecError as why:
            try:
                kind, number = _head(part)
            except (msgspec.DecodeError, RecursionError):
                raise error from None
            if kind not in _SHAPES or kind in {HELLO, WELCOME} or not 0 <= number < 1 << 63:
                raise error from None
            frames.append(Unreadable([UNREADABLE, number, why]))
    return frames


def _count_of(data: bytes) -> int | None:
    """Return how many elements the array has that a message is; None where it is none."""
    first = data[0] if data else 0
    if 0x90 <= first <= 0x9F:
        return first & 0x0F
    return int.from_bytes(data[1 : 1 + (2 << (first - 0xDC))], "big") if first in {0xDC, 0xDD} else None


_parts = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def _head(part: bytes) -> tuple[int, int]:
    """Return kind and exchange of a frame, without looking at the rest. Raises: DecodeError."""
    fields = _parts(part)[:2]
    kind, number = (msgspec.msgpack.decode(field, type=int) for field in fields)
    return kind, number


_seen: set[tuple[Any, ...]] = set()
"""Types of frames that fit, kind by kind: there are few, and looking them up is quicker than comparing."""

SEEN_MAX = 1_000


def _fits(frame: list[Any]) -> bool:
    """Return whether a frame is of the types of its kind; a truth value, which Python counts as an int, is no number.

    Its first field, an exchange's number or the version, is one that a peer could read back.
    """
    kind, fields = frame[0], frame[1:]
    seen = (kind, *map(type, fields))
    if seen not in _seen:
        shape = _SHAPES[kind]
        if len(fields) != len(shape) or not all(map(isinstance, fields, shape)):
            return False
        pairs = zip(fields, shape, strict=True)
        if any(type(field) is bool and expected is not object for field, expected in pairs):
            return False
        if len(_seen) < SEEN_MAX:
            _seen.add(seen)
    return type(fields[0]) is not int or 0 <= fields[0] < 1 << 63


def _nowhere(data: bytes) -> None:
    """Drop a message: its connection has ended."""


class Outbox:
    """Frames on their way out: what one turn of the event loop produces leaves as one message, or as a few.

    A long one would keep the other side idle until all of it is made.
    """

    def __init__(
        self, write: Callable[[bytes], None], call_soon: Callable[..., Any], *, message_bytes: int = MESSAGE_BYTES
    ) -> None:
        self.tagged = True
        self.message_bytes = message_bytes
        self._frames: list[bytes] = []
        self._bytes = 0
        self._asked = False
        self.gathering = False  # whoever adds frames just now flushes when it is done
        self._write = write
        self._call_soon = call_soon

    def put(self, frame: list[Any]) -> None:
        """Add a frame to the message of this turn; one that cannot be encoded becomes an ERROR of its exchange."""
        try:
            self.put_packed(pack_frame(frame, tagged=self.tagged))
        except CodecError as error:
            self.put_packed(pack_frame([ERROR, frame[1], error.to_wire()], tagged=self.tagged))

    def put_packed(self, data: bytes) -> None:
        """Add a frame that is encoded. Raises: CodecError when it is larger than the other side accepts."""
        size = len(data) + HEAD_BYTES
        if size > self.message_bytes:
            raise CodecError(
                f"a value of {len(data)} bytes is larger than a message may be ({self.message_bytes}): send parts"
            )
        if self._bytes and self._bytes + size > self.message_bytes:
            self.flush()
        if not self._asked and not self.gathering:
            self._asked = True
            self._call_soon(self._flush_asked)
        self._frames.append(data)
        self._bytes += size
        if self._bytes > FLUSH_BYTES:
            self.flush()

    def close(self) -> None:
        """Write nothing more, and keep nothing alive."""
        self._frames, self._bytes = [], 0
        self._write = _nowhere

    def _flush_asked(self) -> None:
        self._asked = False
        self.flush()

    def flush(self) -> None:
        """Write what there is."""
        if self._frames:
            frames, self._frames, self._bytes = self._frames, [], 0
            self._write(message_of(frames))
