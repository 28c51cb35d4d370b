"""The web applications of `examples/`: each in front of a real host, asked over real HTTP."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import aiohttp
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@contextmanager
def running(*command: str, **environment: str) -> Iterator[str]:
    """Run a server, and yield the URL that it says it answers on."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "COLUMNS": "200", "PYTHONUNBUFFERED": "1", **environment},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = ""
        while (found := re.search(r"(?i:answers on|running on) (http://[\d.]+:\d+)", said)) is None:
            line = process.stdout.readline()
            assert line, f"{' '.join(command)} ended before it served: {said}"
            said += line
        yield found[1]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def host(flow: str) -> AbstractContextManager[str]:
    return running("actorflow", "run", flow, "--port", "0", "--drain-s", "1")


@pytest.fixture
def with_fastapi() -> Iterator[str]:
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: examples/with_fastapi is not tested")
    served = "uvicorn", "examples.with_fastapi.main:web", "--port", "0"
    with host("examples.with_fastapi.main:flow") as host_url, running(*served, ACTORFLOW_URL=host_url) as url:
        yield url


@pytest.fixture
def with_aiohttp() -> Iterator[str]:
    served = "aiohttp.web", "-H", "127.0.0.1", "-P", "0", "examples.with_aiohttp.main:make"
    with host("examples.with_aiohttp.main:flow") as host_url, running(*served, ACTORFLOW_URL=host_url) as url:
        yield url


Answer = tuple[int, object]


async def ask(method: str, url: str, *, json: object = None, key: str | None = None) -> Answer:
    """Return the status and what the body says: JSON, or the text of what is none."""
    headers = {"Idempotency-Key": key} if key is not None else {}
    async with aiohttp.ClientSession() as session, session.request(method, url, json=json, headers=headers) as answer:
        return answer.status, await (answer.json() if answer.content_type == "application/json" else answer.text())


async def test_the_fastapi_application_passes_on_keys_deadlines_errors_and_streams(with_fastapi: str) -> None:
    soup = {"dish": "soup", "table": 3}

    first = await ask("POST", f"{with_fastapi}/orders", json=soup, key="one")
    again = await ask("POST", f"{with_fastapi}/orders", json=soup, key="one")
    other = await ask("POST", f"{with_fastapi}/orders", json=soup, key="two")
    sold_out = await ask("POST", f"{with_fastapi}/orders", json={"dish": "fish", "table": 3})
    late = await ask("POST", f"{with_fastapi}/orders?timeout_s=0.05", json={"dish": "roast", "table": 3})
    wrong = await ask("POST", f"{with_fastapi}/orders", json={"dish": "soup"})
    courses = await ask("GET", f"{with_fastapi}/courses/3")

    assert first[0] == other[0] == 200
    assert str(first[1]).startswith("soup for table 3, order ")
    assert again == first
    assert other != first
    assert sold_out == (409, {"detail": "no fish today"})
    assert late[0] == 504
    assert wrong[0] == 422
    assert courses == (200, _events("soup for 3", "cake for 3"))


async def test_the_aiohttp_application_passes_on_keys_deadlines_errors_and_streams(with_aiohttp: str) -> None:
    first = await ask("POST", f"{with_aiohttp}/books/emma/loans", key="one")
    again = await ask("POST", f"{with_aiohttp}/books/emma/loans", key="one")
    other = await ask("POST", f"{with_aiohttp}/books/emma/loans", key="two")
    unknown = await ask("POST", f"{with_aiohttp}/books/ulysses/loans")
    late = await ask("POST", f"{with_aiohttp}/books/rare/loans?timeout_s=0.05")
    titles = await ask("GET", f"{with_aiohttp}/search?word=The")

    assert first == again == (200, "loan 1: Emma")
    assert other == (200, "loan 2: Emma")
    assert unknown == (404, {"detail": "there is no book 'ulysses'"})
    assert late[0] == 504
    assert titles == (200, _events("The Time Machine", "The Trial"))


def _events(*replies: str) -> str:
    return "".join(f'data: "{reply}"\n\n' for reply in replies) + "event: end\ndata: {}\n\n"
