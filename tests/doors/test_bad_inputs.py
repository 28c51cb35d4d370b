"""Bad inputs at the doors: each is refused with a reason, and nobody else notices.

After each: the host lives; a probe every 100 ms was answered, none lost, none late; the event loop was not held for a
quarter of a second; memory came back; the log has one line about it, no traceback, and no secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import io
import json
import logging
import os
import pickle
import resource
import struct
import tempfile
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from actorflow import App, Client, Limits, Operator, UnknownStreamError
from actorflow.gateway import Gateway, doorkeeper, serving, session
from actorflow.wire import DONE, ERROR, HELLO, REPLY, REQUEST, VERSION, WELCOME

SECRET = "open-sesame-4711"
MIB = 1 << 20
pack = msgspec.msgpack.encode


class Canary:
    """Whoever unpickles this makes a file."""

    FILE = Path(tempfile.gettempdir()) / "a_pickle_was_read"

    def __reduce__(self) -> Any:
        return (open, (str(self.FILE), "w"))


class Fail(Operator):
    def process(self, item: Any) -> Any:
        raise ValueError("no")


def app() -> App:
    app = App("doors", limits=Limits(timeout_s=5.0))
    app.stream("echo", object, object).map(lambda item: item)
    app.stream("add", int, int).map(lambda number: number + 1)
    return app


class Probe:
    """Asks every 100 ms, and looks how long the event loop was held."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.worst_s = self.lag_s = 0.0
        self.count = 0

    async def run(self) -> None:
        async with Client(self.gateway.url, token=SECRET) as client:
            while True:
                began = time.perf_counter()
                assert await client.request("add", 1) == 2
                self.worst_s = max(self.worst_s, time.perf_counter() - began)
                self.count += 1
                await asyncio.sleep(0.1)

    async def watch(self) -> None:
        while True:
            began = time.thread_time()  # of the processor: what other programs take is no fault of the host
            await asyncio.sleep(0.01)
            self.lag_s = max(self.lag_s, time.thread_time() - began)


def resident() -> int:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.fixture
async def gateway(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Gateway]:
    """Serve, probe meanwhile, and check all general expectations at the end."""
    caplog.set_level(logging.INFO)
    async with serving(app(), port=0, token=SECRET) as gateway:
        gc.collect()
        probe = Probe(gateway)
        probing = [asyncio.create_task(probe.run()), asyncio.create_task(probe.watch())]
        await asyncio.sleep(0.15)
        before = resident()
        yield gateway
        await asyncio.sleep(0.25)
        lag_s = probe.lag_s
        gc.collect()  # of all that a run of the tests has made: it takes a while
        grown = resident() - before
        for task in probing:
            assert not task.done(), "the probe failed"
            task.cancel()
        await asyncio.gather(*probing, return_exceptions=True)
    assert probe.count >= 2
    assert probe.worst_s < 1.0
    assert lag_s < 0.25
    assert grown < 64 * MIB
    assert len(caplog.records) <= 2, [record.getMessage() for record in caplog.records]
    assert not any(record.exc_info for record in caplog.records)
    assert SECRET not in caplog.text
    assert not Canary.FILE.exists()


async def raw(gateway: Gateway, data: bytes, *, end: bool = False, timeout_s: float = 2.0) -> bytes:
    """Send bytes over a connection of their own; return all that comes until it is closed."""
    port = int(gateway.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
            if end:
                writer.write_eof()
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionError):
                return await reader.read()
        return b""
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def socket_to(gateway: Gateway, *, token: str = SECRET, hello: bool = True) -> AsyncIterator[Any]:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as http, http.ws_connect(gateway.url + "/wire", headers=headers) as socket:
        if hello:
            await socket.send_bytes(pack([[HELLO, VERSION, "plain"]]))
            assert msgspec.msgpack.decode(await socket.receive_bytes())[0][0] == WELCOME
        yield socket


async def answers(socket: Any) -> list[Any]:
    """Return all frames that come within two seconds, or until the connection ends."""
    frames: list[Any] = []
    async with asyncio.timeout(2):
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                frames += msgspec.msgpack.decode(message.data)
                if frames[-1][0] in {REPLY, DONE, ERROR} and frames[-1][1] is not None:
                    break
    return frames


# -- what is no HTTP


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bytes((i * 197 + 13) % 256 for i in range(65_536)), "no HTTP"),
        (bytes.fromhex("16030100c8010000c40303") + b"\0" * 189, "TLS on a plain port"),
        (b"\xff\xff\xff\xff", "no HTTP"),
        (struct.pack(">I", 0), "no HTTP"),
        (struct.pack(">I", 100) + b"\x93\x01", "no HTTP"),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", ""),
        (b"GET /streams HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000, "longer than"),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", ""),
        (b"POST /streams/add HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", ""),
        (b"POST /streams/add HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
    ],
)
async def test_what_is_no_http_is_closed_with_a_line_in_the_log(
    gateway: Gateway, data: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await raw(gateway, data)

    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505", b"HTTP/1.0 4"))
    assert said in caplog.text


async def test_who_takes_too_long_to_say_what_is_wanted_is_not_waited_for(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorkeeper, "HEADER_TIMEOUT_S", 0.1)

    for data in (b"", b"G", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"):
        answer = await raw(gateway, data)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")


async def test_a_body_that_never_ends_is_given_up(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actorflow.gateway.bodies.READ_TIMEOUT_S", 0.1)
    head = f"POST /streams/add HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nConnection: close\r\n"

    for kind in ("application/json", "application/x-ndjson"):
        answer = await raw(gateway, f"{head}Content-Type: {kind}\r\nContent-Length: 99\r\n\r\n1\n".encode())
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"did not come within" in answer or b"nothing came after" in answer


# -- frames that are none


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


@pytest.mark.parametrize(
    "data",
    [
        b"\x92\x01",
        b"\x80\x01\x02",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        nested(1_000),
        nested(100_000),
        b"\xdd" + struct.pack(">I", 10_000_000) + b"\x80" * 10_000_000,
        b"\x81\xa2to\xa2\xff\xfe",
        b"\x82\xa2id\x01\xa2id\x02",
        b"\x81\xa8deadline\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
        zlib.compress(b"\0" * (1 << 26), 9),
        b"\xc5" + struct.pack(">H", len(pickle.dumps(Canary()))) + pickle.dumps(Canary()),
        pack([[99, 1]]),
        pack([[REQUEST, 1, ["echo"], 1, None, None, "one", None]]),
        pack([[REQUEST, 1, {"a": 1}, 1, None, None, "one", None]]),
        pack([[REQUEST, 1, None, 1, None, None, "one", None]]),
        pack([[REQUEST, True, "echo", 1, None, None, "one", None]]),
        pack([[HELLO, VERSION, "plain"]]),
        pack("echo"),
        b"",
    ],
)
async def test_a_message_that_is_none_ends_the_connection_with_a_reason(gateway: Gateway, data: bytes) -> None:
    async with socket_to(gateway) as socket:
        await socket.send_bytes(data)
        frames = await answers(socket)

    assert [frame[:2] for frame in frames] == [[ERROR, None]]
    assert frames[0][2]["message"]
    assert socket.closed


@pytest.mark.parametrize("timeout_s", [float("nan"), float("inf"), -1.0, 0.0])
async def test_a_deadline_that_is_none_is_refused_and_nothing_is_begun(gateway: Gateway, timeout_s: float) -> None:
    async with socket_to(gateway) as socket:
        await socket.send_bytes(pack([[REQUEST, 7, "echo", 1, timeout_s, None, "one", None]]))
        frames = await answers(socket)

    assert [frame[:2] for frame in frames] == [[ERROR, 7]]


async def test_what_is_no_number_in_the_data_passes_unchanged(gateway: Gateway) -> None:
    async with socket_to(gateway) as socket:
        await socket.send_bytes(pack([[REQUEST, 7, "echo", [float("nan"), float("inf")], None, None, "one", None]]))
        ((kind, number, value),) = await answers(socket)

    assert (kind, number) == (REPLY, 7)
    assert value[0] != value[0]
    assert value[1] == float("inf")


@pytest.mark.parametrize(
    "name", ["nowhere", "os:system", "../../etc/passwd", "__class__", "a" * 10**6, "", "\0", "\r\n\x1b[2J"]
)
async def test_a_stream_that_does_not_exist_is_an_error_of_its_sender(
    gateway: Gateway, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with socket_to(gateway) as socket:
        for number, mode in enumerate(("one", "send", "stream")):
            await socket.send_bytes(pack([[REQUEST, number, name, 1, None, None, mode, None]]))
            ((kind, answered, error),) = await answers(socket)
            assert (kind, answered, error["type"]) == (ERROR, number, "UnknownStreamError")
    async with Client(gateway.url, token=SECRET) as client:
        with pytest.raises(UnknownStreamError):
            await client.request(name, 1)
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize("token", ["", "wrong", SECRET + "x", SECRET[:-1]])
async def test_without_the_token_nothing_is_read(gateway: Gateway, token: str) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(gateway.url + "/wire", headers={"Authorization": f"Bearer {token}"})
        async with http.post(
            gateway.url + "/streams/add", data="1", headers={"Authorization": f"Bearer {token}"}
        ) as answer:
            problem = await answer.json()
    assert refused.value.status == answer.status == 401
    assert token == "" or token not in json.dumps(problem)


@pytest.mark.parametrize(
    "hello",
    [
        [HELLO, VERSION + 1, "plain"],
        [HELLO, 1, "plain"],
        [HELLO, VERSION, "pickle"],
        [REQUEST, 1, "add", 1, None, None, "one", None],
    ],
)
async def test_who_speaks_another_language_is_told_which_is_spoken_here(gateway: Gateway, hello: list[Any]) -> None:
    async with socket_to(gateway, hello=False) as socket:
        await socket.send_bytes(pack([hello]))
        frames = await answers(socket)

    assert [frame[:2] for frame in frames] == [[ERROR, None]]
    assert socket.closed


async def test_who_says_nothing_is_not_waited_for(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "HELLO_TIMEOUT_S", 0.1)
    async with socket_to(gateway, hello=False) as socket:
        frames = await answers(socket)

    assert "HELLO" in frames[0][2]["message"]


# -- HTTP


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 200 + b"]" * 200,
        b"NaN",
        b"9" * 5_000,
        b'"\\ud800"',
        b"1e400",
        b"{",
        b'{"a": 1',
        b"\xff\xfe",
        b"1 2",
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
async def test_what_is_no_json_is_answered_with_400(gateway: Gateway, body: bytes, kind: str) -> None:
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": kind}
        async with http.post(gateway.url + "/streams/add", data=body, headers=headers) as answer:
            problem = await answer.json()

    assert answer.status == 400, problem
    assert answer.content_type == "application/problem+json"
    assert problem["detail"]


async def test_a_body_that_is_not_compressed_as_it_says_is_answered_with_400(gateway: Gateway) -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Encoding": "gzip"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(gateway.url + "/streams/add", data=b"this is no gzip", headers=headers) as answer,
    ):
        assert answer.status == 400


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
async def test_a_small_body_that_becomes_a_gigabyte_is_stopped_at_the_limit(gateway: Gateway, kind: str) -> None:
    def made() -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        return b"".join(packer.compress(b"1" * MIB) for _ in range(1024)) + packer.flush()

    bomb = io.BytesIO(await asyncio.to_thread(made))
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Encoding": "gzip", "Content-Type": kind}
    async with aiohttp.ClientSession() as http:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with http.post(gateway.url + "/streams/add", data=bomb, headers=headers) as answer:
                assert answer.status in {400, 413}


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize(("coding", "bits"), [("gzip", 31), ("deflate", 15)])
async def test_a_compressed_body_is_understood(gateway: Gateway, kind: str, coding: str, bits: int) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    body = packer.compress(b"41") + packer.flush()
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Encoding": coding, "Content-Type": kind}
    async with aiohttp.ClientSession() as http:
        async with http.post(gateway.url + "/streams/add", data=body, headers=headers) as answer:
            assert (answer.status, await answer.json()) == (200, 42)
        headers["Content-Encoding"] = "br"
        async with http.post(gateway.url + "/streams/add", data=body, headers=headers) as answer:
            assert answer.status == 400


async def test_a_body_beyond_the_limit_is_refused(gateway: Gateway) -> None:
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with http.post(
            gateway.url + "/streams/add", data=io.BytesIO(b"1" * (17 * MIB)), headers=headers
        ) as answer:
            assert answer.status == 413


@pytest.mark.parametrize("path", ["/wire", "/streams/add", "/requests/x", "/dead-letters/1/replay"])
async def test_the_page_of_another_site_may_not_ask_for_anything(gateway: Gateway, path: str) -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "Origin": "http://evil.example"}
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"} if path == "/wire" else {}
    method = "GET" if path == "/wire" else "DELETE" if path == "/requests/x" else "POST"
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, gateway.url + path, headers={**headers, **upgrade}) as answer,
    ):
        assert answer.status == 403
        assert (await answer.json())["title"] == "ForeignOriginError"


async def test_what_is_not_there_is_said_to_be_nowhere_and_what_is_what_it_takes(gateway: Gateway) -> None:
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {SECRET}"}
        for method, path, status, allowed in (
            ("GET", "/nothing/here", 404, None),
            ("PUT", "/streams/add", 405, "POST"),
            ("GET", "/streams/add/send", 405, "POST"),
            ("POST", "/requests/x", 405, "DELETE, GET"),
            ("HEAD", "/streams", 200, None),
        ):
            async with http.request(method, gateway.url + path, headers=headers) as answer:
                assert (answer.status, answer.headers.get("Allow")) == (status, allowed), path
                assert status == 200 or answer.content_type == "application/problem+json"


async def test_a_name_that_leads_here_is_not_this_machine() -> None:
    """A site may have its own name lead to 127.0.0.1, and so be of the same origin as a host without a token."""
    async with serving(app(), port=0) as gateway, aiohttp.ClientSession() as http:
        for host, status in (("evil.example", 403), ("localhost", 200), ("127.0.0.1:7700", 200), ("[::1]:1", 200)):
            async with http.get(gateway.url + "/healthz", headers={"Host": host}) as answer:
                assert answer.status == status, host


@pytest.mark.skipif(os.name != "posix", reason="sockets of this machine are a thing of POSIX")
async def test_a_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "door.sock"
    async with serving(app(), unix=path) as gateway, Client(gateway.url) as client:
        assert await client.request("add", 1) == 2
        assert path.stat().st_mode & 0o077 == 0
        with pytest.raises(OSError, match="somebody listens there"):
            async with serving(app(), unix=path):
                pass
    assert not path.exists()
    path.write_text("a file")
    with pytest.raises(OSError, match="is no socket"):
        async with serving(app(), unix=path):
            pass
    assert path.read_text() == "a file"


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
async def test_a_compressed_body_is_read_to_its_end_and_no_further(gateway: Gateway, kind: str) -> None:
    async def post(body: bytes, coding: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {SECRET}", "Content-Encoding": coding, "Content-Type": kind}
        async with (
            aiohttp.ClientSession() as http,
            http.post(gateway.url + "/streams/add", data=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json()

    two = gzip.compress(b"4") + gzip.compress(b"1")

    assert await post(two, "gzip") == (200, 42)
    assert (await post(two[:-4], "gzip"))[0] == 400
    assert (await post(gzip.compress(b"41") + b"\0" * 1_000, "gzip"))[0] == 400
    assert (await post(zlib.compress(b"41") + b"more", "deflate"))[0] == 400
    assert (await post(zlib.compress(b"41")[:-1], "deflate"))[0] == 400


async def test_headers_that_no_url_could_have_are_refused(gateway: Gateway) -> None:
    for header in (b"Origin: http://[", b"Origin: http://]"):
        answer = await raw(
            gateway, b"POST /streams/add HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n\r\n"
        )
        assert answer.startswith((b"HTTP/1.1 4",)), answer[:80]


async def test_a_body_in_broken_chunks_is_refused_at_once(gateway: Gateway) -> None:
    head = (
        f"POST /streams/add HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: application/x-ndjson\r\n\r\n2\r\n1\n\r\nzz\r\n"
    )

    answer = await raw(gateway, head.encode())

    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")), answer[:80]
