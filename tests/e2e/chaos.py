"""Real processes under chaos: a host is killed, paused and stopped under load, and then everything is counted.

    python tests/e2e/chaos.py --kills 100 --seed 1

A host is `actorflow run chaos_app:app --store sqlite:///…`, always on the same port. It dies by SIGKILL at any moment:
under load, while it starts, paused by SIGSTOP, inside a statement of its store. Clients ask again with the keys of
their requests; some close their sockets in mid-request (half of them with RST), some requests are sent twice, some by
plain HTTP. Afterwards: every request ended once, nothing is lost, nothing was done twice, and no lock is held.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from actorflow import ActivationError, ActorflowError, Client, ConnectionLostError, DeadlineExceededError  # noqa: E402
from actorflow.remote import RemoteConnection  # noqa: E402
from tests.cases.given import case, checks, common, tx, wgl  # noqa: E402

EXACT, EXACT_EACH, SCARCE, SCARCE_EACH = 1_000, 1_000_000, 100, 100
ROOMS, SEATS = 150, 120
ANSWER_TIMEOUT_S = 120.0
START_TIMEOUT_S = 20.0
RECOVERY_MAX_S = 10.0


# -- what is counted


@dataclass
class Tally:
    """What happened in a run."""

    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    kills_that_hit: int = 0
    in_flight_at_kills: list[int] = field(default_factory=list)
    died_in_store: int = 0
    resumed: int = 0
    """Requests that hosts said they go on with when they started."""
    asked: int = 0
    answered: int = 0
    sent_again: int = 0
    nobody_there: int = 0
    by_http: int = 0
    left: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    unknown: int = 0
    hung: int = 0
    noise: int = 0
    """Errors in the logs of hosts that are nobody's fault but should not be there."""
    snapshots: int = 0
    recovery_s: list[float] = field(default_factory=list)
    """From a kill to the first answer to a request that was begun after it; of several kills in a row, the last."""
    outage_s: list[float] = field(default_factory=list)
    """The same, from the first of several kills in a row."""
    up_again_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    took_s: float = 0.0

    def fault(self, said: str) -> None:
        """Note what must not be."""
        self.wrong.append(said)
        print(f"\n  WRONG: {said[:6000]}", file=sys.stderr, flush=True)

    def fault_once(self, said: str) -> None:
        """Note what must not be, unless it is noted."""
        if said not in self.wrong:
            self.fault(said)

    def summary(self) -> dict[str, Any]:
        """Return the numbers."""
        recovery = sorted(self.recovery_s) or [0.0]
        return {
            "kills": self.kills, "kills_with_requests_in_flight": self.kills_that_hit,
            "in_flight_at_a_kill_median": statistics.median(self.in_flight_at_kills or [0]),
            "faults": dict(self.faults), "died_in_store": self.died_in_store,
            "requests_resumed_by_hosts": self.resumed, "answered": self.answered,
            "sent_again": self.sent_again, "nobody_there": self.nobody_there, "by_http": self.by_http,
            "sockets_closed": dict(self.left), "duplicates_compared": self.duplicates, "unknown": self.unknown,
            "hung": self.hung, "noise_in_logs": self.noise,
            "snapshots": self.snapshots, "recovery_median_s": round(statistics.median(recovery), 3),
            "recovery_p99_s": round(recovery[int(len(recovery) * 0.99)], 3), "recovery_max_s": round(recovery[-1], 3),
            "outage_max_s": round(max(self.outage_s or [0.0]), 3),
            "ready_after_first_starts_s": [round(each, 2) for each in self.up_again_s[:8]],
            "ready_after_last_starts_s": [round(each, 2) for each in self.up_again_s[-8:]],
            "ready_after_start_median_s": round(statistics.median(self.up_again_s or [0.0]), 3),
            "took_s": round(self.took_s, 1), "answers_per_s": round(self.answered / max(self.took_s, 1e-9)),
            "wrong": self.wrong,
        }  # fmt: skip


class Counting(RemoteConnection):
    """A connection that counts how often requests are sent again."""

    def __init__(self, url: str, tally: Tally) -> None:
        super().__init__(url)
        self._tally = tally
        self._sockets: dict[int, Any] = {}
        self._orphaned: dict[int, float] = {}

    async def _until_answered(self, once: Callable[[str], Awaitable[Any]], *args: Any, **options: Any) -> Any:
        times = 0

        async def counted(key: str) -> Any:
            nonlocal times
            times += 1
            if times > 1:
                self._tally.sent_again += 1
            return await once(key)

        try:
            return await super()._until_answered(counted, *args, **options)
        except UnboundLocalError as error:
            self._tally.fault_once(f"a client raised {error!r}: its host died before it had greeted")
            raise ConnectionLostError("its host died before it had greeted", retryable=times == 0) from None

    def _new(self) -> Any:
        exchange = super()._new()
        self._sockets[exchange.number] = self._socket
        return exchange

    def orphans(self, after_s: float = 3.0) -> int:
        """Fail exchanges whose socket was lost a while ago and that nobody has told; return how many there were."""
        now_s, found = time.perf_counter(), 0
        for number, exchange in list(self._open.items()):
            where = self._sockets.get(number)
            if exchange.ended or where is None or (where is self._socket and not where.closed):
                self._orphaned.pop(number, None)
            elif now_s - self._orphaned.setdefault(number, now_s) > after_s:
                exchange.fail(ConnectionLostError("nobody has told that the connection was lost"))
                found += 1
        return found

    def tear(self, *, reset: bool) -> bool:
        """Close the socket in mid-request, with FIN or with RST; return whether requests were open."""
        ours, transport = self._socket, None
        if ours is not None and not ours.closed and ours._response.connection is not None:
            transport = ours._response.connection.transport
        if transport is None:
            return False
        if reset:
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        busy = bool(self._open)
        transport.abort() if reset else transport.close()
        return busy


# -- the host


def free_port() -> int:
    """Return a port below those that the system gives to clients: nobody connects to itself while no host is there."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


class HostProcess:
    """One host after another, on one port and one store."""

    def __init__(self, folder: Path, tally: Tally, *, app: str = "chaos_app:app") -> None:
        self.folder = folder
        self.app = app
        self.tally = tally
        self.store = f"sqlite:///{folder / 'chaos.db'}"
        self.log_path = folder / "host.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.begun_s = 0.0
        self._from = 0

    def spawn(self, *, die: str = "", sync: str = "full", strict: bool = False) -> None:
        """Start a host, and do not wait for it."""
        self._from = self.log_path.stat().st_size if self.log_path.exists() else 0
        self.begun_s = time.perf_counter()
        more = ["--strict"] if strict else []
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "actorflow", "run", self.app, "--port", str(self.port),
                 "--store", self.store, "--sync", sync, *more],
                cwd=HERE, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT), "CHAOS_KILL": die},
            )  # fmt: skip

    def said(self) -> str:
        """Return what this host has written so far."""
        with self.log_path.open("rb") as log:
            log.seek(self._from)
            return log.read().decode(errors="replace")

    @property
    def dead(self) -> bool:
        """Return whether the process has ended."""
        return self.process is None or self.process.poll() is not None

    async def ready(self, timeout_s: float = START_TIMEOUT_S) -> bool:
        """Wait until it answers; return False when it has ended before."""
        ends_s = time.perf_counter() + timeout_s
        while "answers on" not in self.said():
            if self.dead:
                return False
            assert time.perf_counter() < ends_s, f"the host did not start within {timeout_s} s:\n{self.said()}"
            await asyncio.sleep(0.01)
        self.tally.up_again_s.append(time.perf_counter() - self.begun_s)
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that we have started."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    async def wait(self, timeout_s: float = 40.0) -> int:
        """Wait for its end; return the exit status."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, timeout_s)

    def resumed(self) -> int:
        """Return how many requests this host said it goes on with."""
        words = next((line for line in self.said().splitlines() if "that were under way go on" in line), "0").split()
        return int(words[0]) if words[0].isdecimal() else 0

    def end(self) -> None:
        """Kill it, if it is there."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


# -- the chaos


class Chaos:
    """A run: a host that is killed, and the load."""

    def __init__(self, folder: Path, *, kills: int, seed: int, scale: float, cycle_s: float, stops: bool) -> None:
        self.kills, self.seed, self.scale = kills, seed, scale
        self.cycle_s, self.stops = cycle_s, stops
        self.random = random.Random(f"load {seed}")
        self.drawn = random.Random(f"faults {seed}")  # of its own, so that a seed gives the same faults
        self.tally = Tally()
        self.host = HostProcess(folder, self.tally)
        self.clients: list[Counting] = []
        self.http: aiohttp.ClientSession = None  # type: ignore[assignment]
        self.in_flight = 0
        self.up = asyncio.Event()
        self.released = 0.0
        self.finished = asyncio.Event()
        self.killed_s: float | None = None
        self.out_s: float | None = None
        self.answers: dict[str, Any] = {}
        self.asked: dict[str, tuple[str, Any]] = {}
        self.own: set[str] = set()
        self.later: set[asyncio.Task[Any]] = set()
        self.histories: dict[str, list[dict[str, Any]]] = {"register": [], "counter": []}
        self.sums: list[list[int]] = []
        self.history_clients: list[Counting] = []

    # -- asking

    async def ask(self, stream: str, item: Any, key: str) -> Any:
        """Ask until there is an answer, which may be an error (its class name); note it."""
        chance = self.random
        self.tally.asked += 1
        self.asked[key] = stream, item
        begun_s = time.perf_counter()
        twice = chance.random() < 0.07
        other: asyncio.Task[Any] | None = None
        if twice:
            other = asyncio.create_task(self._again(stream, item, key, chance.choice([0.0, 0.0, 0.01, 2.0])))
        self.in_flight += 1
        try:
            if chance.random() < 0.15:
                answer = await self._by_http(stream, item, key)
            else:
                own = not twice and chance.random() < 0.4 and stream != "exact"
                if own:  # the client makes a key, and tells the host when it may forget the answer
                    self.own.add(key)
                answer = await self._by_client(stream, item, None if own else key)
        finally:
            self.in_flight -= 1
        if key in self.answers:
            self.tally.fault(f"{key} was answered before")
        self.answers[key] = answer
        self._answered(begun_s)
        if other is not None:
            self._keep(self._compare(key, answer, other))
        return answer

    def _answered(self, begun_s: float) -> None:
        self.tally.answered += 1
        if self.killed_s is not None and begun_s > self.killed_s:
            self.tally.recovery_s.append(time.perf_counter() - self.killed_s)
            self.tally.outage_s.append(time.perf_counter() - (self.out_s or self.killed_s))
            self.killed_s = self.out_s = None

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.later.add(task)

    async def _again(self, stream: str, item: Any, key: str, after_s: float) -> Any:
        await asyncio.sleep(after_s)
        way = self._by_http if self.random.random() < 0.5 else self._by_client
        return await way(stream, item, key)

    async def _compare(self, key: str, answer: Any, other: asyncio.Task[Any]) -> None:
        again = await other
        self.tally.duplicates += 1
        if again != answer:
            self.tally.fault(f"{key} {self.asked[key]} was answered {answer!r}, and its duplicate {again!r}")

    async def _by_client(self, stream: str, item: Any, key: str | None) -> Any:
        while True:
            client = Client(self.random.choice(self.clients))
            try:
                return await client.request(stream, item, key=key, timeout_s=ANSWER_TIMEOUT_S)
            except ConnectionLostError as error:
                if not error.retryable:
                    self.tally.fault(f"{stream} {item}: {error}")
                    if key is None:
                        return "lost"
                self.tally.nobody_there += 1
            except ActorflowError as error:
                if not error.retryable or isinstance(error, ActivationError):
                    return self._failed(stream, item, type(error).__name__, str(error))
                self.tally.nobody_there += 1
            await asyncio.sleep(0.05)

    async def _by_http(self, stream: str, item: Any, key: str) -> Any:
        self.tally.by_http += 1
        url = f"{self.host.url}/streams/{stream}?timeout_s={ANSWER_TIMEOUT_S}"
        while True:
            patience_s = self.random.choice([0.002, 0.02]) if self.random.random() < 0.15 else ANSWER_TIMEOUT_S
            try:
                async with (
                    asyncio.timeout(patience_s),
                    self.http.post(url, json=item, headers={"Idempotency-Key": key}) as response,
                ):
                    answer = await response.json(content_type=None)
                    if response.status == 200:
                        return answer
                    if response.status not in {429, 503}:
                        return self._failed(stream, item, answer.get("title"), answer.get("detail", ""))
                self.tally.nobody_there += 1
            except TimeoutError:
                self.tally.left["http"] += 1  # it left in mid-request, and comes back with its key
            except (aiohttp.ClientError, OSError, ValueError):
                self.tally.nobody_there += 1
            await asyncio.sleep(0.03)

    def _failed(self, stream: str, item: Any, kind: Any, said: str) -> str:
        if stream == "order" and item[2] and "Declined" in f"{kind} {said}":
            return "declined"
        self.tally.fault(f"{stream} {item} failed: {kind}: {said}")
        return f"{kind}"

    async def sent(self, item: Any, key: str) -> None:
        """Send, and insist until it is accepted."""
        while True:
            try:
                await Client(self.random.choice(self.clients)).send("notice", item, key=key)
                self.tally.answered += 1
                return
            except ActorflowError as error:
                if not error.retryable:
                    self.tally.fault(f"send {item}: {error!r}")
                self.tally.nobody_there += 1
            await asyncio.sleep(0.05)

    async def look(self, verb: str, *arguments: Any, **options: Any) -> Any:
        """Ask something of the host itself until there is an answer."""
        while True:
            try:
                client = Client(self.random.choice(self.clients))
                return await getattr(client, verb)(*arguments, **options)
            except ConnectionLostError:
                await asyncio.sleep(0.05)

    # -- load

    def open_to(self, total: int) -> int:
        """Return how many of so many operations may have begun by now."""
        return total if self.finished.is_set() else int(total * min(self.released, 1.0))

    async def play(self, operations: list[Any], workers: int, ask: Callable[[Any], Awaitable[Any]]) -> None:
        """Have workers do operations in their order, as they are released."""
        ahead = iter(enumerate(operations))

        async def work() -> None:
            for number, operation in ahead:
                while number >= self.open_to(len(operations)):
                    await asyncio.sleep(0.02)
                await ask(operation)

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())

    async def release(self) -> None:
        """Let the load go on while the host is up, as far as the faults have come."""
        last_s = time.perf_counter()
        while not self.finished.is_set():
            await asyncio.sleep(0.02)
            now_s = time.perf_counter()
            if self.up.is_set():
                done = (sum(self.tally.faults.values()) + 1.5) / (self.kills + 2)
                self.released = min(self.released + (now_s - last_s) / (self.kills * self.cycle_s), done, 0.97)
            last_s = now_s

    async def banks(self, kind: str, name: str, workers: int) -> None:
        """Transfers, some of them sent twice with the same id."""
        params = case(name)["params"]
        count = max(50, int(params["n"] * self.scale))
        dup = params.get("dup_percent", 0)
        ops = tx.bank_ops(params["seed"], params["accounts"], count, params["theta"], params["max_amount"], dup)
        setattr(self, f"{kind}_ops", ops)

        async def ask(op: dict[str, Any]) -> None:
            key = f"{kind} {op['id']}"
            item = [op["id"], op["src"], op["dst"], op["amount"]]
            if op.get("dup"):
                again = await self._again(kind, item, key, 0.0)
                self.tally.duplicates += 1
                while key not in self.answers:
                    await asyncio.sleep(0.01)
                if again != self.answers[key]:
                    self.tally.fault(f"{key} was answered {self.answers[key]!r}, and its duplicate {again!r}")
                return
            await self.ask(kind, item, key)

        await self.play(ops, workers, ask)

    async def travel(self) -> None:
        """Trips: a room and a seat, both or none."""
        params = case("state-06-travel")["params"]
        count = max(50, int(params["n"] * self.scale))
        self.trips = tx.travel_ops(params["seed"], params["hotels"], params["flights"], count)
        await self.play(
            self.trips, 8,
            lambda op: self.ask("travel", [op["id"], op["hotel"], op["flight"]], f"travel {op['id']}"),
        )  # fmt: skip

    async def orders(self) -> None:
        """Orders of many steps, and sends."""
        count = max(30, int(3000 * self.scale))
        chance = random.Random(f"orders {self.seed}")
        self.order_ops = [[number, chance.randrange(1, 4), chance.random() < 0.06] for number in range(count)]
        self.sends = [[-1 - number, 0, "sent"] for number in range(count // 3)]
        both = [("order", op) for op in self.order_ops] + [("send", op) for op in self.sends]
        chance.shuffle(both)

        async def ask(operation: tuple[str, Any]) -> None:
            kind, op = operation
            if kind == "send":
                await self.sent(op, f"send {op[0]}")
            else:
                await self.ask("order", op, f"order {op[0]}")

        await self.play(both, 24, ask)

    async def record(self, name: str, workers: int, operations: list[Any], ask: Any) -> None:
        """Have clients of their own ask, and write down when they asked and were answered."""
        connections = [Counting(self.host.url, self.tally) for _ in range(workers)]
        self.history_clients.extend(connections)
        free = list(range(workers))
        chance = random.Random(f"unknown {name} {self.seed}")

        async def one(operation: Any) -> None:
            number = free.pop()
            client = Client(connections[number])
            given = chance.random()
            entry = {"call": time.perf_counter(), "ret": None, "input": operation[1:], "output": None,
                     "key": operation[0], "proc": number}  # fmt: skip
            self.histories[name].append(entry)
            self.in_flight += 1
            try:
                while True:
                    try:
                        if given < 0.01:
                            entry["output"] = await ask(client, operation, 0.004)
                        elif given < 0.02:  # whoever asked gives up
                            async with asyncio.timeout(0.004):
                                entry["output"] = await ask(client, operation, ANSWER_TIMEOUT_S)
                        else:
                            entry["output"] = await ask(client, operation, ANSWER_TIMEOUT_S)
                        entry["ret"] = time.perf_counter()
                        self._answered(entry["call"])
                        return
                    except (DeadlineExceededError, TimeoutError) as error:
                        self.tally.unknown += 1
                        if given >= 0.02:
                            self.tally.fault(f"{name} {operation}: {error!r}")
                        return
                    except ConnectionLostError as error:
                        if not error.retryable:
                            self.tally.unknown += 1
                            if given >= 0.02:
                                self.tally.fault(f"{name} {operation}: {error!r}")
                            return
                        self.tally.nobody_there += 1
                    except ActorflowError as error:
                        if not error.retryable:
                            self.tally.unknown += 1
                            self.tally.fault(f"{name} {operation}: {error!r}")
                            return
                    await asyncio.sleep(0.03)
            finally:
                self.in_flight -= 1
                free.append(number)

        await self.play(operations, workers, one)

    async def registers(self) -> None:
        """Read, write, compare and set."""
        params = case("history-01-register")["params"]
        chance = random.Random(f"registers {self.seed}")
        operations: list[Any] = []
        for _ in range(max(200, int(params["ops"] * self.scale))):
            key, kind = chance.randrange(params["keys"]), chance.randrange(100)
            if kind < 50:
                operations.append((key, "read"))
            elif kind < 80:
                operations.append((key, "write", chance.randrange(5)))
            else:
                operations.append((key, "cas", chance.randrange(5), chance.randrange(5)))

        async def ask(client: Client, operation: Any, timeout_s: float) -> Any:
            (answer,) = await client.request("register", list(operation), timeout_s=timeout_s)
            return answer

        await self.record("register", params["clients"], operations, ask)

    async def counters(self) -> None:
        """Add, and get what it is then."""
        params = case("history-02-counter")["params"]
        chance = random.Random(f"counters {self.seed}")
        operations = [
            (chance.randrange(params["counters"]), "add_get", chance.randrange(1, 10))
            for _ in range(max(100, int(params["ops"] * self.scale)))
        ]

        async def ask(client: Client, operation: Any, timeout_s: float) -> Any:
            return await client.request("add-get", [operation[0], operation[2]], timeout_s=timeout_s)

        await self.record("counter", params["clients"], operations, ask)

    # -- readers

    async def read(self) -> None:
        """Take snapshots while everything runs: money is conserved in each, and nothing that was seen goes away."""
        last = {"volume": 0, "sold": 0, "rooms": 0}
        while True:
            how = self.random.randrange(3)
            if how == 0:
                rows = await self.look("cell_range", "exact", limit=10_000)
                self.sums.append([balance for _, balance in rows])
            elif how == 1:
                with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
                    async with self.http.get(f"{self.host.url}/cells/exact?limit=10000") as response:
                        if response.status == 200:
                            self.sums.append([row["value"] for row in await response.json()])
            else:
                seen = await self._by_client("audit", 0, None)
                if not isinstance(seen, dict):
                    continue
                self._audit(seen, last)
            self.tally.snapshots += 1
            await asyncio.sleep(0.05)

    def _audit(self, seen: dict[str, int], last: dict[str, int]) -> None:
        if seen["exact"] != EXACT * EXACT_EACH or seen["scarce"] != SCARCE * SCARCE_EACH or seen["poorest"] < 0:
            self.tally.fault(f"money is lost, or made: {seen}")
        if seen["rooms"] != seen["seats"]:
            self.tally.fault(f"a room without a seat is seen: {seen}")
        if seen["gone"] != seen["sold"]:
            self.tally.fault(f"half an activation is seen: {seen}")
        for name, before in last.items():
            if seen[name] < before:
                self.tally.fault(f"{name} was {before}, and then {seen[name]}: what was told is lost")
            last[name] = seen[name]

    async def watch(self) -> None:
        """Find requests that would wait for ever, since their connection is gone."""
        calm = 0
        while True:
            await asyncio.sleep(0.5)
            for connection in [*self.clients, *self.history_clients]:
                if found := connection.orphans():
                    self.tally.hung += found
                    self.tally.fault_once("requests wait for ever: their connection was lost, and they were not told")
            calm = calm + 1 if self.finished.is_set() and self.in_flight else 0
            if calm == 60:
                chains = Counter(_waits_for(task) for task in asyncio.all_tasks())
                self.tally.fault("in flight, and nothing happens any more:\n" + "\n".join(sorted(chains)))

    async def tear(self) -> None:
        """Close sockets in mid-request, and close clients in mid-request, which then come back."""
        while True:
            await asyncio.sleep(self.random.uniform(0.05, 0.4))
            connection = self.random.choice([*self.clients, *self.history_clients])
            reset = self.random.random() < 0.5
            if connection.tear(reset=reset):
                self.tally.left["RST" if reset else "FIN"] += 1

    # -- faults

    def draw(self) -> tuple[str, str]:
        """Return the next fault, and how the host is to kill itself, if so."""
        chance = self.drawn
        kind = chance.choices(
            ["kill", "kill at start", "pause", "kill paused", "kill in store", "stop"],
            [55, 12, 9, 7, 13, 4 if self.stops else 0],
        )[0]
        if kind != "kill in store":
            return kind, ""
        where = chance.choice(["sql", "sql", "append-before", "append-after", "fold-before", "fold-after"])
        count = {"sql": chance.randrange(1, 3000), "fold": chance.randrange(1, 3)}
        return kind, f"{where}:{count.get(where.partition('-')[0], chance.randrange(1, 80))}"

    def _killed(self) -> None:
        self.up.clear()
        self.tally.kills += 1
        self.tally.in_flight_at_kills.append(self.in_flight)
        self.tally.kills_that_hit += self.in_flight > 0
        self.killed_s = time.perf_counter()
        self.out_s = self.out_s or self.killed_s

    async def faults(self) -> None:
        """Do to the host what is drawn, until it was killed often enough; then leave it up."""
        chance, host, tally = self.drawn, self.host, self.tally
        spawned = True  # the first one is there
        while tally.kills < self.kills:
            kind, die = self.draw()
            if not spawned:
                await asyncio.sleep(chance.choice([0.0, 0.0, 0.1, 0.3, 1.0]))
                sync = "full" if chance.random() < 0.8 else "off"
                host.spawn(die=die, sync=sync, strict=chance.random() < 0.2)
            elif die:
                continue
            spawned = False
            tally.faults[kind] += 1
            if kind == "kill at start":
                await asyncio.sleep(chance.uniform(0.0, 0.8))
            elif not await host.ready():
                assert die, f"the host ended by itself:\n{host.said()[-3000:]}"
                self._killed()
                tally.died_in_store += 1
                continue
            else:
                tally.resumed += host.resumed()
                self.up.set()
                await asyncio.sleep(
                    chance.choice([chance.uniform(0, 0.1), chance.uniform(0, 0.8), chance.uniform(0, 2)])
                )
            if kind == "kill in store":
                for _ in range(400):
                    if host.dead:
                        break
                    await asyncio.sleep(0.01)
                tally.died_in_store += host.dead
            elif kind in {"pause", "kill paused"}:
                host.signal(signal.SIGSTOP)
                long = kind == "pause" and chance.random() < 0.15
                await asyncio.sleep(3.0 if long else chance.uniform(0.02, 0.5))
                if kind == "pause":
                    host.signal(signal.SIGCONT)
                    await asyncio.sleep(chance.uniform(0.0, 0.5))
                    spawned = True
                    continue
            elif kind == "stop":
                self.up.clear()
                host.signal(signal.SIGTERM)
                status = await host.wait()
                if status != 0:
                    tally.fault(f"after SIGTERM the host ended with {status}: {host.said()[-1500:]}")
                continue
            if not host.dead:
                host.signal(signal.SIGKILL)
            self._killed()
            status = await host.wait()
            if status != -signal.SIGKILL:
                tally.fault(f"the host ended by itself with {status}: {host.said()[-3000:]}")
        if not spawned:
            host.spawn()
        assert await host.ready(), host.said()[-3000:]
        tally.resumed += host.resumed()
        self.up.set()

    # -- the run

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        self.host.spawn()
        try:
            assert await self.host.ready(), self.host.said()
            self.clients = [Counting(self.host.url, self.tally) for _ in range(6)]
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as self.http:
                yield
        finally:
            for task in self.later:
                task.cancel()
            for connection in [*self.clients, *self.history_clients]:
                with contextlib.suppress(Exception):
                    await connection.close()
            self.host.end()

    async def run(self, *, timeout_s: float, live: bool) -> Tally:
        """Do it all."""
        began_s = time.perf_counter()
        async with asyncio.timeout(timeout_s), self._running():
            assert await self.ask("open", None, "open") == EXACT
            self.up.set()
            aside = [
                asyncio.create_task(work)
                for work in (self.release(), self.tear(), self.read(), self.watch(), self.show(live))
            ]
            try:
                async with asyncio.TaskGroup() as group:
                    for work in (
                        self.banks("exact", "state-01-bank", 16), self.banks("scarce", "state-02-bank-scarce", 8),
                        self.travel(), self.orders(), self.registers(), self.counters(), self._faults_and_calm(),
                    ):  # fmt: skip
                        group.create_task(work)
                self.tally.took_s = time.perf_counter() - began_s
            finally:
                for task in aside:
                    task.cancel()
                for gone in await asyncio.gather(*aside, return_exceptions=True):
                    if isinstance(gone, Exception):
                        self.tally.fault(f"a reader or breaker failed: {gone!r}")
            await asyncio.gather(*self.later)
            self.later.clear()
            await self.judge()
        return self.tally

    async def _faults_and_calm(self) -> None:
        try:
            await self.faults()
        finally:
            self.finished.set()

    async def show(self, live: bool) -> None:
        """Show how it goes on one line."""
        began_s = time.perf_counter()
        while live:
            await asyncio.sleep(0.5)
            tally = self.tally
            print(
                f"\r{time.perf_counter() - began_s:6.1f} s  {tally.kills:4}/{self.kills} kills  "
                f"{tally.answered:6} answered  {self.in_flight:3} in flight  {tally.sent_again:5} sent again  "
                f"{tally.resumed:5} resumed  "
                f"{tally.snapshots} snapshots  {len(tally.wrong)} wrong ",
                end="", file=sys.stderr, flush=True,
            )  # fmt: skip

    # -- the judgement

    async def cells(self) -> dict[str, Any]:
        """Return all that is in the cells."""
        found: dict[str, Any] = {}
        for cell in await self.look("cells"):
            name = cell["name"]
            if cell["key"] is None:
                held = await self.look("cell", name)
                found[name] = sorted(held) if cell["kind"] == "set" else held
                continue
            rows: dict[Any, Any] = {}
            for key, value in await self.pages(name):
                rows[_hashable(key)] = value
            found[name] = rows
        return found

    async def pages(self, name: str) -> list[Any]:
        """Return a whole cell, page by page."""
        rows: list[Any] = []
        while True:
            page = await self.look("cell_range", name, rows[-1][0] if rows else None, limit=10_000)
            rows.extend(page[1:] if rows else page)
            if len(page) < 10_000:
                return rows

    async def judge(self) -> None:
        """Compare what is there with what was answered."""
        tally = self.tally
        await self.settle()
        there = await self.cells()
        for said in self.violations(there):
            tally.fault(said)
        for said in self.histories_judged():
            tally.fault(said)
        await self.ask_again(40)
        for how in (signal.SIGKILL, signal.SIGTERM):  # a restart changes nothing
            self.host.signal(how)
            status = await self.host.wait()
            if how == signal.SIGTERM and status != 0:
                tally.fault(f"the host ended with {status}")
            self.host.spawn()
            assert await self.host.ready(), self.host.said()[-3000:]
            again = await self.cells()
            for name in there:
                if again[name] != there[name]:
                    tally.fault(f"a restart after {how.name} changes {name}")
        await self.ask_again(40)
        await self.settle()
        self.host.signal(signal.SIGTERM)
        if (status := await self.host.wait()) != 0:
            tally.fault(f"the host ended with {status}: {self.host.said()[-1500:]}")
        checked = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "actorflow", "store", "check", self.host.store],
            capture_output=True, text=True, check=False, cwd=HERE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        if checked.returncode != 0:
            tally.fault(f"actorflow store check: {checked.stderr}")
        log = self.host.log_path.read_text(errors="replace")
        for said, times in Counter(_troubles(log)).items():
            if "Cannot write to closing transport" in said:
                tally.noise += times  # of a client that was gone before its handshake had ended
            else:
                tally.fault(f"hosts logged {times} times: {said}")
        for name, count in (("requests in flight at a kill", tally.kills_that_hit), ("retries", tally.sent_again)):
            if not count:
                tally.fault(f"the faults did not hit: no {name}")
        if tally.recovery_s and max(tally.recovery_s) > RECOVERY_MAX_S:
            tally.fault(f"recovery took {max(tally.recovery_s):.1f} s")

    async def settle(self) -> None:
        """Wait until nothing is in flight and what was sent for later is done; no lock is held then."""
        ends_s = time.perf_counter() + 20.0
        calm = 0
        while calm < 3:
            await asyncio.sleep(0.25)
            async with self.http.get(f"{self.host.url}/streams") as response:
                busy = {each["name"]: each["in_flight"] for each in await response.json() if each["in_flight"]}
            locks = await self.look("locks")
            marks = {_hashable(key) for key, _ in await self.pages("marks")}
            missing = self.expected_marks()[0].keys() - marks
            missing |= {(*key[:2], name) for key in marks if key[2] == "ship" for name in ("now", "later")} - marks
            calm = calm + 1 if not busy and not locks and not missing else 0
            if time.perf_counter() > ends_s:
                self.tally.fault(
                    f"no rest: in flight {busy}, locks {locks[:5]}, {len(missing)} missing {list(missing)[:5]}"
                )
                return
        await asyncio.sleep(0.5)

    async def ask_again(self, count: int) -> None:
        """Ask once more with keys that were answered long ago: the answers are the same."""
        keys = [key for key in self.answers if key != "open"]
        for key in self.random.sample(keys, min(count, len(keys))):
            stream, item = self.asked[key]
            if key in self.own:
                continue
            again = await self._again(stream, item, key, 0.0)
            self.tally.duplicates += 1
            if again != self.answers[key]:
                self.tally.fault(f"{key} {item} was answered {self.answers[key]!r}, and much later {again!r}")

    def expected_marks(self) -> tuple[dict[Any, int], set[Any]]:
        """Return the marks that must be there, and those that may."""
        must: dict[Any, int] = {(*op[:2], op[2]): 1 for op in self.sends}
        may: set[Any] = set()
        for order in self.order_ops:
            number, parts, declined = order
            for part in range(parts):
                names = ["pay", "ship", "now", "later"] + (["stamp 0", "stamp 1"] if number % 3 == 0 else [])
                marks = {(number, part, name): 1 for name in names} | {(number, part, "wait"): 2}
                answer = self.answers.get(f"order {number}")
                if answer == parts:
                    must.update(marks)
                elif not (declined and part == parts - 1):
                    may.update(marks)
        return must, may

    def violations(self, there: dict[str, Any]) -> Iterator[str]:
        """Yield what is wrong with what is in the cells."""
        yield from self.bank_violations(there)
        rooms, seats = (
            [capacity - there[name].get(number, 0) for number in range(30)]
            for name, capacity in (("rooms", ROOMS), ("seats", SEATS))
        )
        answers = {op["id"]: self.answers[f"travel {op['id']}"] for op in self.trips}
        yield from checks.travel(self.trips, answers, ROOMS, SEATS, rooms, seats)
        yield from self.order_violations(there)

    def bank_violations(self, there: dict[str, Any]) -> Iterator[str]:
        moved = 0
        for kind, each, count in (("exact", EXACT_EACH, EXACT), ("scarce", SCARCE_EACH, SCARCE)):
            ops = getattr(self, f"{kind}_ops")
            balances = [there[kind][account] for account in range(count)]
            answers = {op["id"]: self.answers[f"{kind} {op['id']}"] for op in ops}
            if any(answer not in {True, False} for answer in answers.values()):
                yield f"{kind}: answers other than True and False"
            yield from checks.bank(ops, answers, balances, each)
            moves = Counter(number for what, number in there["moves"] if what == kind)
            done = Counter(number for number, answer in answers.items() if answer)
            if moves != done:
                yield f"{kind}: {len(moves - done)} moves too many and {len(done - moves)} missing in the log"
            moved += sum({op["id"]: op["amount"] for op in ops if answers[op["id"]]}.values())
        if there["volume"] != moved:
            yield f"volume is {there['volume']}, but {moved} was moved"
        facts = case("state-01-bank")
        if len(self.exact_ops) == facts["expected"]["requests_sent"]:  # type: ignore[attr-defined]
            balances = [there["exact"][account] for account in range(EXACT)]
            if common.seq_hash(balances)[1] != facts["expected"]["balances_sha256"]:
                yield "balances differ from those of the case"
        yield from checks.snapshot_sums(self.sums, EXACT * EXACT_EACH)

    def order_violations(self, there: dict[str, Any]) -> Iterator[str]:
        must, may = self.expected_marks()
        marks = there["marks"]
        lost = [key for key in must if key not in marks]
        twice = {key: times for key, times in marks.items() if times > (2 if key[2] == "wait" else 1)}
        half = [key for key, times in must.items() if marks.get(key, times) < times]
        never = [key for key in marks if key not in must and key not in may]
        for what, found in (("lost", lost), ("done twice", twice), ("half done", half), ("never to be done", never)):
            if found:
                yield f"{len(found)} marks of orders are {what}: {[(key, marks.get(key)) for key in found][:5]}"
        for order in self.order_ops:
            answer = self.answers[f"order {order[0]}"]
            if answer != ("declined" if order[2] else order[1]):
                yield f"order {order} was answered {answer!r}"
        book = [tuple(entry) for entry in there["book"]]
        reserved = Counter(entry[:2] for entry in book)
        if any(times > 1 for times in reserved.values()):
            yield f"reserved twice: {[key for key, times in reserved.items() if times > 1][:5]}"
        if len({entry[2] for entry in book}) != len(book):
            yield "a uuid was given twice"
        sold: Counter[int] = Counter()
        for number, part in reserved:
            sold[(number * 7 + part) % 40] += 1 + (number + part) % 3
        shipped = {key[:2] for key in marks if key[2] == "ship"}
        answered = {order[0] for order in self.order_ops if self.answers[f"order {order[0]}"] == order[1]}
        if shipped - set(reserved) or any(line[0] in answered for line in set(reserved) - shipped):
            yield f"reserved and shipped differ: {list(shipped ^ set(reserved))[:5]}"
        if there["sold"] != sold.total():
            yield f"sold is {there['sold']}, but {sold.total()} were reserved"
        for sku in range(40):
            if there["stock"].get(sku, 1_000_000) != 1_000_000 - sold[sku]:
                yield f"stock of {sku} is {there['stock'].get(sku)}, but {sold[sku]} were sold"
        paid = sum(100 * (1 + (key[0] + key[1]) % 3) for key in marks if key[2] == "pay")
        if there["paid"] != paid:
            yield f"paid is {there['paid']}, but the marks say {paid}"
        if set(there["skus"]) != set(sold):
            yield "the set of skus and the book differ"
        if book and there["latest"] != max(number for number, _ in reserved):
            yield f"the latest order is {there['latest']}"

    def histories_judged(self) -> Iterator[str]:
        """Yield which histories have no order that explains them."""
        for name, model in (("register", wgl.Register()), ("counter", wgl.Counter())):
            told = [op for op in self.histories[name] if op["ret"] is not None or op["input"][0] != "read"]
            for part in wgl.partition(told, lambda op: op["key"]):
                verdict = wgl.check(part, model, 3_000_000)
                if verdict is not True:
                    (self.host.folder / f"history-{name}-{part[0]['key']}.json").write_text(json.dumps(part))
                    yield f"history {name} {part[0]['key']} of {len(part)} operations: {verdict}"


def _troubles(log: str) -> Iterator[str]:
    """Yield what hosts have logged as errors, each with the last line of its traceback."""
    lines = log.splitlines()
    for number, line in enumerate(lines):
        if " CRITICAL " in line or " ERROR " in line:
            block = itertools.takewhile(lambda each: not each[:4].isdigit(), lines[number + 1 :])
            ends = [each for each in block if each[:1].strip() and "Error" in each.split(":")[0]]
            yield f"{line[24:240]} {ends[0] if ends else ''}"
        elif line.startswith("Traceback") and not (number and lines[number - 1][:4].isdigit()):
            yield "\n".join(lines[number : number + 40])


def _waits_for(task: asyncio.Task[Any]) -> str:
    """Return what a task waits for, from its outermost coroutine to the innermost."""
    chain, frame = [], task.get_coro()
    while frame is not None and hasattr(frame, "cr_frame"):
        if frame.cr_frame is not None:
            known = {
                name: frame.cr_frame.f_locals[name]
                for name in ("stream", "item", "key")
                if name in frame.cr_frame.f_locals
            }
            chain.append(f"{frame.__qualname__}:{frame.cr_frame.f_lineno}{known or ''}")
        frame = frame.cr_await
    return " > ".join(chain)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


async def run(
    folder: Path,
    *,
    kills: int,
    seed: int,
    scale: float,
    timeout_s: float,
    cycle_s: float = 1.0,
    stops: bool = True,
    live: bool = False,
) -> Tally:
    """Run the chaos and return what was counted; `wrong` says what must not be."""
    chaos = Chaos(folder, kills=kills, seed=seed, scale=scale, cycle_s=cycle_s, stops=stops)
    return await chaos.run(timeout_s=timeout_s, live=live)


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, help="share of the cases' operations; by default as the kills allow")
    parser.add_argument("--no-stops", action="store_true", help="no SIGTERM, after which a host drains")
    parser.add_argument("--keep", type=Path, help="folder for the store and the log of the hosts")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    scale = given.scale if given.scale is not None else min(1.0, given.kills / 100)
    tally = asyncio.run(
        run(
            folder,
            kills=given.kills,
            seed=given.seed,
            scale=scale,
            timeout_s=120 + given.kills * 8.0,
            stops=not given.no_stops,
            live=True,
        )
    )
    print("\n" + json.dumps(tally.summary(), indent=1))
    if tally.wrong:
        print(f"store and logs: {folder}")
    elif given.keep is None:
        shutil.rmtree(folder)
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
