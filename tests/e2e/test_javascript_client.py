"""The client in JavaScript against a real host, and the Python client in the same words: both are answered the same."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from actorflow import ActorflowError, Client

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import asyncio
from collections import defaultdict
from actorflow import App, Operator

happened = defaultdict(asyncio.Event)

class Refuses(Operator):
    def process(self, item: str) -> str:
        raise LookupError(f"no {item} here")

class Sleeps(Operator):
    concurrency = 10
    async def process(self, name: str) -> str:
        happened[name + " sleeps"].set()
        try:
            await asyncio.sleep(600)
        finally:
            happened[name + " is cancelled"].set()

class Notes(Operator):
    def process(self, what: str) -> None:
        happened[what].set()

class Awaits(Operator):
    concurrency = 10
    async def process(self, what: str) -> str:
        await happened[what].wait()
        return what

class Endless(Operator):
    def process(self, name: str):
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            happened[name + " is closed"].set()

app = App("spoken")
app.stream("echo").map(lambda item: item)
app.stream("whole", int, int).map(lambda number: number)
app.stream("half", float, float).map(lambda number: number / 2)
app.stream("refuses", str, str).then(Refuses)
app.stream("sleeps", str, str, timeout_s=600).then(Sleeps)
app.stream("note", str, replies="none").then(Notes)
app.stream("await", str, str).then(Awaits)
app.stream("squares", int, int, replies="many").map(lambda number: number * number)
app.stream("odd", int, int, replies="many").map(lambda number: 1 // (number % 2))
app.stream("total", int, int).fold(0, lambda total, number: total + number)
app.stream("endless", str, int, replies="many").then(Endless)
"""
VALUES = {
    "nothing": None, "yes": True, "text": "Grüße, 世界 🌍", "long text": "x" * 70_000, "pi": 3.141592653589793,
    "numbers": [0, 127, 128, -1, -32, -33, 255, 256, 65_535, 65_536, -32_769, 2**31, -(2**31) - 1, 2**53 - 1],
    "list": list(range(20)), "deep": [[[[{"a": {"b": []}}]]]], "large": {str(number): number for number in range(40)},
}  # fmt: skip

Step = tuple[str, dict[str, Any], Any]
STEPS: list[Step] = [
    ("request", {"stream": "echo", "item": "tea"}, "tea"),
    ("request", {"stream": "echo", "item": VALUES}, VALUES),
    ("request", {"stream": "half", "item": 5}, 2.5),
    ("request", {"stream": "refuses", "item": "tea"}, {"error": "builtins:LookupError"}),
    ("request", {"stream": "nowhere", "item": 1}, {"error": "UnknownStreamError"}),
    ("request", {"stream": "whole", "item": "one"}, {"error": "InvalidItemError"}),
    ("request", {"stream": "sleeps", "item": "late", "timeout_s": 0.05}, {"error": "DeadlineExceededError"}),
    ("request", {"stream": "await", "item": "late is cancelled"}, "late is cancelled"),
    ("request", {"stream": "whole", "item": 1, "key": "same"}, 1),
    ("request", {"stream": "whole", "item": 1, "key": "same"}, 1),
    ("send", {"stream": "note", "item": "noted"}, "accepted"),
    ("request", {"stream": "await", "item": "noted"}, "noted"),
    ("send", {"stream": "nowhere", "item": 1}, {"error": "UnknownStreamError"}),
    ("stream", {"stream": "squares", "items": list(range(3_000))}, [number * number for number in range(3_000)]),
    ("stream", {"stream": "squares", "items": []}, []),
    ("stream", {"stream": "total", "items": list(range(3_000))}, [sum(range(3_000))]),
    ("stream", {"stream": "odd", "items": [1, 2]}, {"error": "builtins:ZeroDivisionError"}),
    ("stream", {"stream": "endless", "items": ["early"], "leave_after": 3}, [0, 1, 2]),
    ("request", {"stream": "await", "item": "early is closed"}, "early is closed"),
    ("stream", {"stream": "endless", "items": ["long"], "leave_after": 5_000}, list(range(5_000))),
    ("cancel", {"stream": "sleeps", "item": "cut", "once": "cut sleeps"}, {"error": "RequestCancelledError"}),
    ("request", {"stream": "await", "item": "cut is cancelled"}, "cut is cancelled"),
    ("request", {"stream": "echo", "item": "still here"}, "still here"),
]
RUN = """
import { Client } from "%(client)s";

const client = await Client.connect(process.argv[2]);
const verbs = {
  request: ({ stream, item, ...options }) => client.request(stream, item, options),
  send: async ({ stream, item }) => ((await client.send(stream, item)) ? "accepted" : "not accepted"),
  async cancel({ stream, item, once }) {
    const controller = new AbortController();
    client.request("await", once).then(() => controller.abort());
    return await client.request(stream, item, { signal: controller.signal });
  },
  async stream({ stream, items, leave_after }) {
    const replies = [];
    for await (const reply of client.stream(stream, items)) {
      if (replies.push(reply) === leave_after) break;
    }
    return replies;
  },
};
let text = "";
for await (const part of process.stdin) text += part;
const outcomes = [];
for (const [verb, told] of JSON.parse(text)) {
  outcomes.push(await verbs[verb](told).catch((error) => ({ error: error.type ?? String(error) })));
}
client.close();
console.log(JSON.stringify(outcomes));
"""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "spoken.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "-m", "actorflow", "run", "spoken:app", "--port", "0", "--drain-s", "1"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert process.stderr is not None
    found = None
    while found is None:
        line = process.stderr.readline()
        assert line, "the host did not start"
        found = re.search(r"answers on (http://[\d.]+:\d+)", line)
    yield found[1]
    process.terminate()
    process.communicate(timeout=30)


def node() -> list[str]:
    """Return the command that runs Node with a WebSocket, or skip the test."""
    path = shutil.which("node")
    if path is None:
        pytest.skip("node is not installed: the client in JavaScript is not tested")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    version = tuple(map(int, re.findall(r"\d+", said)[:2]))
    if version < (20, 10):
        pytest.skip(f"node {said.strip()} has no WebSocket: the client in JavaScript needs 20.10, better 22")
    return [path] if version >= (22,) else [path, "--experimental-websocket", "--no-warnings"]


def test_the_client_in_javascript_is_answered_as_it_should_be(url: str, tmp_path: Path) -> None:
    client = ROOT / "examples" / "javascript" / "client.mjs"
    (tmp_path / "run.mjs").write_text(RUN % {"client": client.as_uri()})

    done = subprocess.run(
        [*node(), str(tmp_path / "run.mjs"), url],
        input=json.dumps([step[:2] for step in STEPS]), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [expected for _, _, expected in STEPS]


async def test_the_client_in_python_is_answered_the_same(url: str) -> None:
    async with Client(url) as client, asyncio.timeout(120):
        outcomes = [await _outcome(client, verb, dict(told)) for verb, told, _ in STEPS]

    assert outcomes == [expected for _, _, expected in STEPS]


async def test_what_is_no_host_is_an_error_and_not_a_hang_in_javascript(unused_tcp_port: int, tmp_path: Path) -> None:
    (tmp_path / "run.mjs").write_text(RUN % {"client": (ROOT / "examples" / "javascript" / "client.mjs").as_uri()})

    done = await asyncio.to_thread(
        subprocess.run, [*node(), str(tmp_path / "run.mjs"), f"http://127.0.0.1:{unused_tcp_port}"],
        input="[]", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "ConnectionLostError" in done.stderr


async def _outcome(client: Client, verb: str, told: dict[str, Any]) -> Any:
    try:
        if verb == "request":
            return await client.request(told.pop("stream"), told.pop("item"), **told)
        if verb == "send":
            return "accepted" if await client.send(told["stream"], told["item"]) else "not accepted"
        if verb == "cancel":
            return await _cancelled(client, **told)
        return await _streamed(client, **told)
    except (ActorflowError, LookupError, ArithmeticError) as error:
        return {"error": error.to_wire()["type"] if isinstance(error, ActorflowError) else repr(error)}


async def _streamed(client: Client, *, stream: str, items: list[Any], leave_after: int = 0) -> list[Any]:
    replies = []
    async with aclosing(client.stream(stream, items=items)) as coming:
        async for reply in coming:
            replies.append(reply)
            if len(replies) == leave_after:
                break
    return replies


async def _cancelled(client: Client, *, stream: str, item: str, once: str) -> Any:
    asking = asyncio.create_task(client.request(stream, item))
    await client.request("await", once)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    return {"error": "RequestCancelledError"}  # here it is the caller's own cancellation
