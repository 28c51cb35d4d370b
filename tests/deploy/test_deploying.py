"""Apps deployed to a host that runs: shipped, replaced, swapped, taken away, over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import wasmtime

from actorflow import Client
from actorflow.deploy.deployer import Deployer
from actorflow.deploy.registry import DeployLimits, FolderFiles, MemoryFiles, Registry
from actorflow.gateway import Gateway
from actorflow.gateway.apps import SPEC_TYPE
from actorflow.runtime.host import Host
from actorflow.stores.memory import MemoryStore
from actorflow.testing import check_nothing_left


def adder(by: int, kind: str = "i64") -> bytes:
    text = (
        f'(module (func (export "add") (param {kind}) (result {kind}) ({kind}.add (local.get 0) ({kind}.const {by}))))'
    )
    return bytes(wasmtime.wat2wasm(text))


SPEC = """
app: sums
streams:
  add:
    request: int
    reply: int
    steps:
      - map: wasm:add.wasm#add
"""


class Place:
    """A bare host with its door, and a session that has the token for deploying."""

    def __init__(self, *, store: Any = None, files: Any = None, python: bool = False, **limits: Any) -> None:
        self.deployer = Deployer(Registry(files or MemoryFiles(), DeployLimits(**limits)), python=python)
        self.wrong = self.deployer.restore()
        self.store = store

    @contextlib.asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[Place]:
        self.host = Host(self.deployer.plan, store=self.store, **options)
        self.deployer.serve(self.host)
        self.gateway = Gateway(self.host, port=0, deployer=self.deployer, deploy_token="secret")
        await self.host.start()
        await self.gateway.start()
        headers = {"Authorization": "Bearer secret"}
        async with aiohttp.ClientSession(self.gateway.url, headers=headers) as self.session:
            yield self
        await self.gateway.stop()
        await self.host.stop()
        self.deployer.registry.close()
        check_nothing_left(self.host)

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with self.session.request(method, path, **more) as answer:
            return answer.status, await answer.json(content_type=None)

    async def send(self, *modules: bytes) -> None:
        for code in modules:
            await self.ask("PUT", f"/modules/{hashlib.sha256(code).hexdigest()}", data=code)

    async def deploy(self, name: str, spec: str, **modules: bytes) -> tuple[int, Any]:
        await self.send(*modules.values())
        digests = {f"{each}.wasm": hashlib.sha256(code).hexdigest() for each, code in modules.items()}
        body = {"spec": spec, "form": "yaml", "modules": digests}
        return await self.ask("PUT", f"/apps/{name}", json=body, headers={"Content-Type": SPEC_TYPE})

    async def call(self, stream: str, item: Any) -> Any:
        status, answer = await self.ask("POST", f"/streams/{stream}", json=item)
        assert status == 200, answer
        return answer


async def test_an_app_is_deployed_called_listed_and_taken_away() -> None:
    async with Place().running() as place:
        status, told = await place.deploy("sums", SPEC, add=adder(1))
        first = await place.call("add", 41)
        listed = (await place.ask("GET", "/apps"))[1]
        about = (await place.ask("GET", "/streams"))[1]
        gone = await place.ask("DELETE", "/apps/sums")
        after, problem = await place.ask("POST", "/streams/add", json=1)

    assert (status, told["how"], told["version"], told["streams"]) == (200, "deployed", 1, ["add"])
    assert first == 42
    assert [each["app"] for each in listed] == ["sums"]
    assert [each["name"] for each in about] == ["add"]
    assert gone == (200, {"app": "sums", "state": "taken away"})
    assert (after, problem["title"]) == (404, "UnknownStreamError")


async def test_a_new_module_takes_over_under_load_and_no_request_is_lost() -> None:
    async with Place().running() as place, Client(place.gateway.url) as client:
        await place.deploy("sums", SPEC, add=adder(1))
        seen: list[int] = []
        ended = False

        async def ask() -> None:
            while not ended:
                seen.append(await client.request("add", 0))

        asking = [asyncio.create_task(ask()) for _ in range(8)]
        hows = []
        for by in (2, 3, 4, 5):
            await asyncio.sleep(0.02)
            hows.append((await place.deploy("sums", SPEC, add=adder(by)))[1]["how"])
        await asyncio.sleep(0.02)
        ended = True
        await asyncio.gather(*asking)
        last = await client.request("add", 0)

    assert hows == ["swapped"] * 4
    assert last == 5
    assert set(seen) <= {1, 2, 3, 4, 5}
    assert len(seen) > 50


async def test_another_topology_takes_the_place_of_the_last() -> None:
    async with Place().running() as place:
        await place.deploy("sums", SPEC, add=adder(1))
        longer = SPEC + "      - map: wasm:add.wasm#add\n"
        _, told = await place.deploy("sums", longer, add=adder(1))
        answer = await place.call("add", 0)
        back = (await place.ask("POST", "/apps/sums/versions/1"))[1]
        before = await place.call("add", 0)

    assert (told["how"], told["version"]) == ("replaced", 2)
    assert answer == 2
    assert (back["version"], before) == (1, 1)


async def test_what_runs_already_is_no_new_version() -> None:
    async with Place().running() as place:
        await place.deploy("sums", SPEC, add=adder(1))
        _, told = await place.deploy("sums", SPEC, add=adder(1))

    assert (told["how"], told["version"], len(told["versions"])) == ("unchanged", 1, 1)


@pytest.mark.parametrize(
    ("spec", "module", "status", "said"),
    [
        (SPEC, b"not a module", 422, "is not a WASM module"),
        (SPEC, adder(1)[:-3], 422, "not a valid WASM module"),
        (SPEC, adder(1, "f64"), 422, "called otherwise"),
        (SPEC.replace("#add", "#sub"), adder(1), 422, "no function 'sub'"),
        (SPEC.replace("map", "mapp"), adder(1), 422, "mapp"),
        (SPEC.replace("sums", "other"), adder(1), 409, "to be deployed as 'sums'"),
        (SPEC + "      - map: python:os:system\n", adder(1), 422, "names Python"),
        (SPEC + "      - call: nowhere\n", adder(1), 422, "nowhere"),
        ("- not an app", adder(1), 422, "sums.yaml"),
        ("app: [", adder(1), 422, "sums.yaml"),
    ],
    ids=["text", "cut", "type", "export", "verb", "name", "python", "call", "list", "yaml"],
)
async def test_what_is_refused_leaves_the_last_version_running(
    spec: str, module: bytes, status: int, said: str
) -> None:
    async with Place().running() as place:
        await place.deploy("sums", SPEC, add=adder(1))
        seen, problem = await place.deploy("sums", spec, add=module)
        answer = await place.call("add", 1)
        about = (await place.ask("GET", "/apps/sums"))[1]

    assert seen == status, problem
    assert said in problem["detail"]
    assert answer == 2
    assert (about["version"], len(about["versions"])) == (1, 1)


async def test_a_module_that_was_not_sent_is_named() -> None:
    async with Place().running() as place:
        body = {"spec": SPEC, "form": "yaml", "modules": {"add.wasm": "0" * 64}}
        missing = await place.ask("PUT", "/apps/sums", json=body, headers={"Content-Type": SPEC_TYPE})
        none = await place.ask("PUT", "/apps/sums", data=SPEC, headers={"Content-Type": "application/yaml"})
        apps = (await place.ask("GET", "/apps"))[1]

    assert missing[0] == 422
    assert "send it first" in missing[1]["detail"]
    assert none[0] == 422
    assert "was not sent along" in none[1]["detail"]
    assert apps == []


async def test_deploying_needs_the_token_and_calling_does_not() -> None:
    async with Place().running() as place:
        await place.deploy("sums", SPEC, add=adder(1))
        async with aiohttp.ClientSession(place.gateway.url) as stranger:
            seen = []
            for method, path in (
                ("PUT", "/apps/sums"), ("DELETE", "/apps/sums"), ("POST", "/apps/sums/versions/1"),
                ("PUT", f"/modules/{'0' * 64}"),
            ):  # fmt: skip
                async with stranger.request(method, path, headers={"Authorization": "Bearer wrong"}) as answer:
                    seen.append(answer.status)
            async with stranger.post("/streams/add", json=1) as answer:
                called = await answer.json()

    assert seen == [401] * 4
    assert called == 2


async def test_sizes_are_limited() -> None:
    async with Place(module_bytes=30, spec_bytes=100).running() as place:
        module = adder(1)
        assert len(module) > 30
        refused = await place.ask("PUT", f"/modules/{hashlib.sha256(module).hexdigest()}", data=module)
        spec = await place.deploy("sums", SPEC + "#" * 200)

    assert refused[0] == 400
    assert "limit" in refused[1]["detail"]
    assert spec[0] in {400, 409}


async def test_apps_of_the_same_stream_do_not_share_it() -> None:
    async with Place().running() as place:
        await place.deploy("sums", SPEC, add=adder(1))
        status, problem = await place.deploy("other", SPEC.replace("sums", "other"), add=adder(2))

        assert await place.call("add", 0) == 1

    assert status == 409
    assert "add is there already" in problem["detail"]


async def test_what_was_deployed_is_there_after_a_restart(tmp_path: Path) -> None:
    async with Place(files=FolderFiles(tmp_path)).running() as place:
        await place.deploy("sums", SPEC, add=adder(1))
        await place.deploy("sums", SPEC, add=adder(7))
    again = Place(files=FolderFiles(tmp_path))
    async with again.running() as place:
        answer = await place.call("add", 0)
        about = (await place.ask("GET", "/apps/sums"))[1]

    assert again.wrong == []
    assert answer == 7
    assert about["version"] == 2


async def test_an_app_that_cannot_be_built_any_more_keeps_no_other_from_running(tmp_path: Path) -> None:
    async with Place(files=FolderFiles(tmp_path)).running() as place:
        await place.deploy("sums", SPEC, add=adder(1))
        await place.deploy("more", SPEC.replace("sums", "more").replace("  add:", "  more:"), add=adder(2))
    (tmp_path / "modules" / hashlib.sha256(adder(1)).hexdigest()).unlink()
    again = Place(files=FolderFiles(tmp_path))
    async with again.running() as place:
        answer = await place.call("more", 0)

    assert len(again.wrong) == 1
    assert "app sums does not run: " in again.wrong[0]
    assert "send it first" in again.wrong[0]
    assert answer == 2


async def test_an_idle_app_gives_up_its_replicas_and_answers_all_the_same() -> None:
    async with Place().running(idle_s=0.05) as place:
        await place.deploy("sums", SPEC, add=adder(1))
        await place.call("add", 1)
        for _ in range(100):
            if "add" in place.host.changes.dormant:
                break
            await asyncio.sleep(0.02)
        asleep = list(place.host.changes.dormant)
        answer = await place.call("add", 1)

    assert asleep == ["add"]
    assert answer == 2


async def test_a_module_that_is_swapped_while_its_stream_sleeps_is_the_one_that_wakes() -> None:
    async with Place().running(idle_s=0.05) as place:
        await place.deploy("sums", SPEC, add=adder(1))
        await place.call("add", 1)
        for _ in range(100):
            if "add" in place.host.changes.dormant:
                break
            await asyncio.sleep(0.02)
        _, told = await place.deploy("sums", SPEC, add=adder(10))
        answer = await place.call("add", 1)

    assert told["how"] == "swapped"
    assert answer == 11


async def test_state_stays_through_versions_restarts_and_undeploying_until_it_is_dropped(tmp_path: Path) -> None:
    spec = """
app: counting
cells:
  hits: {kind: table, key: page, value: int}
streams:
  hit:
    request: str
    steps:
      - key_by:
        space: page
      - then: python:tests.deploy.operators:Hit
"""
    pytest.importorskip("tests.deploy.operators", reason="run from the root of the project")
    store = MemoryStore()
    async with Place(files=FolderFiles(tmp_path), store=store, python=True).running() as place:
        status, told = await place.deploy("counting", spec)
        assert status == 200, told
        first = await place.call("hit", "a")
        await place.deploy("counting", spec + "# again\n")
        second = await place.call("hit", "a")
    async with Place(files=FolderFiles(tmp_path), store=store, python=True).running() as place:
        third = await place.call("hit", "a")
        await place.ask("DELETE", "/apps/counting")
    async with Place(files=FolderFiles(tmp_path), store=store, python=True).running() as place:
        await place.deploy("counting", spec)
        fourth = await place.call("hit", "a")
        dropped = await place.ask("DELETE", "/apps/counting?state=drop")
        await place.deploy("counting", spec)
        anew = await place.call("hit", "a")

    assert dropped == (200, {"app": "counting", "state": "forgotten"})
    assert (first, second, third, fourth, anew) == (1, 2, 3, 4, 1)


COUNTING = """
app: counting
cells:
  hits: {kind: table, key: page, value: int}
streams:
  hit:
    request: str
    steps:
      - key_by:
        space: page
      - then: python:tests.deploy.operators:Hit
"""
SIMPLE = """
app: counting
streams:
  other:
    request: int
    reply: list
    steps:
      - collect:
"""


async def test_a_cell_that_a_version_dropped_waits_in_the_store_for_one_that_has_it_again(tmp_path: Path) -> None:
    pytest.importorskip("tests.deploy.operators", reason="run from the root of the project")
    store = MemoryStore()
    async with Place(files=FolderFiles(tmp_path), store=store, python=True).running() as place:
        await place.deploy("counting", COUNTING)
        assert await place.call("hit", "a") == 1
        status, told = await place.deploy("counting", SIMPLE)
        assert status == 200, told
    async with Place(files=FolderFiles(tmp_path), store=store, python=True).running() as place:
        assert await place.call("other", 2) == [2]
        table = "cells:\n  hits: {kind: table, key: page, value: int}\n"
        mine = table + SIMPLE.replace("counting", "mine").replace("other", "another")
        refused = await place.deploy("mine", mine)
        otherwise = await place.deploy("counting", "cells:\n  hits: {kind: counter}\n" + SIMPLE)
    async with Place(files=FolderFiles(tmp_path), store=store, python=True).running() as place:
        await place.deploy("counting", COUNTING)
        again = await place.call("hit", "a")
        await place.deploy("counting", SIMPLE)
    async with Place(files=FolderFiles(tmp_path), store=store, python=True).running() as place:
        await place.ask("DELETE", "/apps/counting?state=drop")
        await place.deploy("counting", COUNTING)
        anew = await place.call("hit", "a")

    assert "of app counting" in refused[1]["detail"]
    assert "declared otherwise" in otherwise[1]["detail"]
    assert (again, anew) == (2, 1)


async def test_a_host_starts_without_an_app_that_cannot_be_built_and_keeps_its_state(tmp_path: Path) -> None:
    pytest.importorskip("tests.deploy.operators", reason="run from the root of the project")
    store = MemoryStore()
    async with Place(files=FolderFiles(tmp_path), store=store, python=True).running() as place:
        await place.deploy("counting", COUNTING)
        assert await place.call("hit", "a") == 1
    async with Place(files=FolderFiles(tmp_path), store=store).running() as place:  # Python is not allowed here
        assert place.wrong
    async with Place(files=FolderFiles(tmp_path), store=store, python=True).running() as place:
        assert not place.wrong
        assert await place.call("hit", "a") == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("map: wasm:add.wasm#add", "map: wasm:add.wasm#add\n        options: {slice_s: 1.0}"), "slice_s"),
        (("map: wasm:add.wasm#add", "map: wasm:add.wasm#add\n        options: {threads: 17}"), "threads"),
        (("map: wasm:add.wasm#add", "then: wasm:add.wasm#add\n        replicas: 1000000"), "replicas"),
    ],
)
async def test_what_would_take_too_much_of_a_host_is_refused(change: tuple[str, str], said: str) -> None:
    async with Place().running() as place:
        status, told = await place.deploy("sums", SPEC.replace(*change), add=adder(1))

    assert status in {409, 422}
    assert said in str(told)


async def test_a_client_that_goes_away_does_not_leave_a_change_half_made() -> None:
    async with Place().running() as place:
        deploying = asyncio.create_task(place.deploy("sums", SPEC, add=adder(1)))
        await place.send(adder(1))
        await asyncio.sleep(0.002)
        deploying.cancel()
        await asyncio.gather(deploying, return_exceptions=True)
        await place.gateway._apps.settle()  # type: ignore[union-attr]
        status, told = await place.ask("GET", "/apps/sums")
        if status == 200:
            assert told["version"] == 1
            assert await place.call("add", 1) == 2


async def test_what_cannot_be_written_down_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    files = MemoryFiles()
    async with Place(files=files).running() as place:
        await place.deploy("sums", SPEC, add=adder(1))
        write = files.write

        def full(path: str, data: bytes) -> None:
            if path.endswith("current"):
                raise OSError(28, "No space left on device")
            write(path, data)

        monkeypatch.setattr(files, "write", full)
        status, told = await place.deploy("sums", SPEC, add=adder(5))
        monkeypatch.undo()

        assert status == 409, told
        assert "No space left" in told["detail"]
        assert await place.call("add", 1) == 2
        assert (await place.ask("GET", "/apps/sums"))[1]["version"] == 1


async def test_a_host_with_a_token_of_its_own_takes_the_one_for_deploying() -> None:
    place = Place()
    host = Host(place.deployer.plan)
    place.deployer.serve(host)
    gateway = Gateway(host, port=0, token="everyday", deployer=place.deployer, deploy_token="secret")
    await host.start()
    await gateway.start()
    answers = {}
    async with aiohttp.ClientSession(gateway.url) as session:
        for token in ("secret", "everyday", "wrong"):
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/yaml"}
            async with session.put("/apps/other", data=SIMPLE.replace("counting", "other"), headers=headers) as answer:
                deployed = answer.status
            async with session.get("/streams", headers=headers) as answer:
                answers[token] = deployed, answer.status
    await gateway.stop()
    await host.stop()

    assert answers == {"secret": (200, 401), "everyday": (401, 200), "wrong": (401, 401)}
