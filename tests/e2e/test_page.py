"""The page in a real browser, before a real host: what a person sees, sends, cancels and replays.

It needs Debian's Chromium (`apt-get install -y chromium`) and Playwright (`pip install playwright`), and says so where
one of them is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="the page is tested with Playwright: pip install playwright")
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="the page is tested in Debian's Chromium: apt-get install -y chromium"
)
HERE = Path(__file__).parent
WAIT_MS = 8000  # for what takes a poll or two, on a busy machine
expect.set_options(timeout=WAIT_MS)


class RunningHost:
    """A host process; `stop` and `start` have it go away and come back on the same port."""

    def __init__(self, **environment: str) -> None:
        self.environment = environment
        self.port = 0
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "actorflow", "run", "page_app:app", "--port", str(self.port), "--drain-s", "0.1"],
            cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "COLUMNS": "200", **self.environment},
        )  # fmt: skip
        assert self.process.stdout is not None
        seen = ""
        while "answers on" not in seen:
            line = self.process.stdout.readline()
            assert line, f"the host ended without answering: {seen}"
            seen += line
        self.url = seen.split("answers on ")[1].split()[0]
        self.port = int(self.url.rsplit(":", 1)[1])
        threading.Thread(target=self.process.stdout.read, daemon=True).start()  # a full pipe would block the host

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def post(self, path: str, item: Any = None) -> Any:
        body = json.dumps(item).encode()
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    running = RunningHost()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Pages:
    """Opens views of the page. At the end nothing may have been said to their consoles but what a test expects."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        self.url = url
        self.said: list[str] = []
        self.expected: list[str] = []  # statuses: a browser says so of every answer that is an error
        self.contexts: list[Any] = []

    def open(self, view: str, *, url: str = "", **options: Any) -> Page:
        self.contexts.append(context := self.browser.new_context(**options))
        page: Page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.said.append(f"not caught: {error}"))
        page.goto(f"{url or self.url}/#/{view}")
        return page

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"} and not any(each in message.text for each in self.expected):
            self.said.append(message.text)


@pytest.fixture
def pages(browser: Browser, host: RunningHost) -> Iterator[Pages]:
    opened = Pages(browser, host.url)
    yield opened
    for context in opened.contexts:
        context.close()
    assert not opened.said


def rate_of(page: Page) -> float:
    text = page.locator("#drawing .operator .number").text_content() or ""
    return float(text.split("/s")[0].replace(",", "").replace("K", "e3"))


def items_of(page: Page) -> int:
    return int((page.locator("#replicas td").nth(4).text_content() or "0").replace(",", ""))


def delete(host: RunningHost, path: str) -> None:
    urllib.request.urlopen(urllib.request.Request(host.url + path, method="DELETE"), timeout=10).close()


def test_it_shows_the_app_its_streams_and_the_topology_of_one(pages: Pages) -> None:
    page = pages.open("streams/deposit")

    expect(page.get_by_role("heading", level=1)).to_have_text("gallery")
    expect(page.locator("#connection")).to_have_text("connected")
    expect(page.locator("#durable")).to_have_text("in memory")
    expect(page.get_by_role("link", name="halve")).to_be_visible()
    drawing = page.get_by_role("img")
    expect(drawing).to_have_attribute("aria-label", "Topology of deposit: entry to key_by, key_by to Deposit "
                                                    "(key account), Deposit to reply")  # fmt: skip
    expect(page.locator("#drawing .keyed .label")).to_have_text("account")
    page.get_by_role("link", name="halve").click()
    expect(page.locator("#drawing .edge.feedback .line")).to_be_visible()


def test_the_form_is_filled_with_an_example_and_shows_the_reply(pages: Pages) -> None:
    page = pages.open("streams/deposit")
    item = page.get_by_label("Item, as JSON")
    expect(item).to_have_value('{\n  "account": "text",\n  "cents": 1\n}')

    item.fill('{"account": "page", "cents": 41')
    expect(page.locator("#item-fault")).to_contain_text("Expected")
    item.fill('{"account": "page", "cents": 41}')
    expect(page.locator("#item-fault")).to_be_empty()
    page.get_by_role("button", name="Send").click()

    answer = page.locator("#answers > li").first
    expect(answer.locator(".status")).to_contain_text("200")
    expect(answer.locator("pre")).to_have_text("41")


def test_an_item_of_the_wrong_type_is_answered_with_the_reason(pages: Pages) -> None:
    page = pages.open("streams/deposit")

    pages.expected.append("422")
    page.get_by_label("Item, as JSON").fill('{"account": 7}')
    page.get_by_role("button", name="Send").click()

    expect(page.locator("#answers .status")).to_contain_text("422 InvalidItemError")
    expect(page.locator("#answers .fault")).to_contain_text("account")


def test_streamed_replies_appear_one_by_one(pages: Pages) -> None:
    page = pages.open("streams/ticks")

    page.get_by_label("Item, as JSON").fill("4")
    page.get_by_role("button", name="Send").click()

    replies = page.locator("#answers > li").first.locator("pre")
    seen = set()
    over_s = time.monotonic() + WAIT_MS / 1000
    while (shown := replies.count()) < 4 and time.monotonic() < over_s:
        seen.add(shown)
        page.wait_for_timeout(40)
    assert {1, 2, 3} <= seen
    assert replies.all_inner_texts() == ["0", "1", "2", "3"]
    expect(page.locator("#answers .status").first).to_contain_text("200 done")


def test_lines_of_items_are_sent_as_many_items(pages: Pages) -> None:
    page = pages.open("streams/halve")

    page.get_by_label("each line is an item").check()
    page.get_by_label("Item, as JSON").fill("8\n16\n\n32")
    page.get_by_role("button", name="Send").click()

    expect(page.locator("#answers pre").first).to_have_text("3")


def test_numbers_move_under_load(host: RunningHost, pages: Pages) -> None:
    page = pages.open("streams/deposit")
    slow = pages.open("streams/slow")
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            host.post("/streams/deposit", {"account": "loaded", "cents": 1})

    loading = threading.Thread(target=load)
    loading.start()
    waiting = [host.post("/streams/slow/send", 60)["request_id"] for _ in range(5)]
    try:
        expect(page.locator("#drawing .flowing")).to_have_count(3)
        assert rate_of(page) > 0
        before = items_of(page)
        page.wait_for_timeout(1500)
        assert items_of(page) > before
        expect(slow.locator("#drawing .number")).to_contain_text("depth 3")
    finally:
        over.set()
        loading.join()
        for request in waiting:
            delete(host, f"/requests/{request}")
    expect(slow.locator("#drawing .number")).to_contain_text("depth 0")


def test_a_request_in_flight_is_opened_and_cancelled(host: RunningHost, pages: Pages) -> None:
    request = host.post("/streams/ask/send", 60)["request_id"]
    page = pages.open("streams/ask")

    page.get_by_role("link", name=request).click()
    facts = page.locator("#request-facts")
    expect(facts).to_contain_text("Ask: 1 at work")
    expect(facts).to_contain_text("return stack")
    expect(page.locator("#drawing .holding .held")).to_have_text("1 item")
    facts.locator("a").click()  # its child
    expect(page.locator("#stream-name")).to_have_text("slow")
    expect(facts).to_contain_text("Wait: 1 at work")
    facts.get_by_role("link", name=request).click()  # and back
    expect(page.locator("#stream-name")).to_have_text("ask")

    page.get_by_role("button", name="Cancel this request").click()
    page.get_by_role("button", name="No, leave it").click()
    expect(page.locator("#requests tr")).to_have_count(1)
    pages.expected.append("404")  # it asks for a request that has ended
    page.get_by_role("button", name="Cancel this request").click()
    page.get_by_role("button", name="Cancel the request").click()

    expect(page.locator("#requests tr")).to_have_count(0)
    expect(page.locator("#request-state")).to_contain_text("has ended")


def test_dead_letters_are_inspected_replayed_and_forgotten(host: RunningHost, pages: Pages) -> None:
    for name in ("first", "second"):
        host.post("/streams/fragile", name)
    page = pages.open("dead-letters")
    letters = page.locator("#letters tr").filter(has_text="fragile/Fragile")
    expect(letters).to_have_count(2)

    letters.filter(has_text="first").get_by_role("button", name="Inspect").click()
    expect(page.locator("#letter-facts")).to_contain_text("first is new to me")
    letters.filter(has_text="first").get_by_role("button", name="Replay").click()
    expect(page.locator("#letters-said")).to_contain_text("is replayed as request")
    expect(letters).to_have_count(1)
    letters.filter(has_text="second").get_by_role("button", name="Forget").click()
    page.get_by_role("button", name="Forget it").click()

    expect(letters).to_have_count(0)
    expect(page.locator("#letters-said")).to_contain_text("is forgotten")


def test_shared_state_shows_the_matrix_what_cells_hold_and_locks(host: RunningHost, pages: Pages) -> None:
    host.post("/streams/deposit", {"account": "shown", "cents": 5})
    held = host.post("/streams/transfer/send", 60)["request_id"]
    page = pages.open("state")

    expect(page.locator("#matrix tr").filter(has_text="deposit/Deposit")).to_contain_text("✓ owned()")
    expect(page.locator("#reasons")).to_contain_text("changes of a counter commute")
    expect(page.locator("#locks tr").first).to_contain_text("transfer/Transfer")
    page.get_by_role("button", name="Show what accounts holds").click()
    expect(page.locator("#entries tr").filter(has_text="shown")).to_contain_text("5")
    delete(host, f"/requests/{held}")
    expect(page.get_by_text("No key is in use.")).to_be_visible()


def test_a_person_with_a_keyboard_alone_sends_a_request(pages: Pages) -> None:
    page = pages.open("streams/greet")
    expect(page.locator("#stream-name")).to_have_text("greet")

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} cannot be reached with Tab")

    tab_to("#item")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type('"keys"')
    tab_to("#submit")
    page.keyboard.press("Enter")

    expect(page.locator("#answers pre").first).to_have_text('"Hello, keys!"')
    assert page.evaluate("document.activeElement.id") == "submit"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark_and_in_a_narrow_window(pages: Pages, scheme: str) -> None:
    page = pages.open("streams/deposit", color_scheme=scheme, viewport={"width": 400, "height": 800})
    expect(page.locator("#drawing svg")).to_be_visible()

    luminance = page.evaluate(
        """() => ["color", "backgroundColor"].map((name) => {
            const [red, green, blue] = getComputedStyle(document.body)[name].match(/[0-9.]+/g).map((each) => each / 255)
                .map((each) => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
            return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
        })"""
    )

    dark, bright = sorted(luminance)
    assert (bright + 0.05) / (dark + 0.05) > 7
    assert (luminance[1] < luminance[0]) is (scheme == "dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_what_the_host_says_is_never_markup(host: RunningHost, pages: Pages) -> None:
    host.post("/streams/fragile", "<img src=x onerror=alert(1)>")
    page = pages.open("dead-letters")
    letter = page.locator("#letters tr").filter(has_text="fragile/Fragile")

    expect(letter).to_contain_text("<img src=x")
    assert page.locator("main img").count() == 0
    letter.get_by_role("button", name="Replay").click()
    expect(letter).to_have_count(0)


def test_a_hidden_page_asks_nothing(pages: Pages) -> None:
    page = pages.open("streams/greet")
    expect(page.locator("#connection")).to_have_text("connected")
    asked: list[str] = []

    page.evaluate(
        """() => { Object.defineProperty(document, "hidden", {value: true, configurable: true});
                   document.dispatchEvent(new Event("visibilitychange")); }"""
    )
    page.wait_for_timeout(300)
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(1500)
    assert not asked

    page.evaluate("() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }")
    page.wait_for_timeout(500)
    assert asked


def test_it_says_that_the_host_is_gone_and_comes_back_by_itself_and_asks_for_a_token(pages: Pages) -> None:
    pages.expected += ["401", "ERR_CONNECTION_REFUSED"]
    other = RunningHost(ACTORFLOW_TOKEN="a secret")
    try:
        page = pages.open("streams/greet", url=other.url)
        expect(page.locator("#connection")).to_have_text("a token is needed")
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Token")).to_be_visible()
        page.get_by_label("Token").fill("a secret")
        page.keyboard.press("Enter")
        expect(page.locator("#connection")).to_have_text("connected")
        expect(page.locator("#token")).to_be_hidden()

        other.stop()
        expect(page.locator("#connection")).to_contain_text("does not answer")
        other.start()

        expect(page.locator("#connection")).to_have_text("connected")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#answers .status").first).to_contain_text("200")
    finally:
        other.stop()
