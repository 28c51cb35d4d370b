"""The marketplace of `examples/marketplace`, against the operations and invariants of its cases.

`ref/market_ref.py` makes the operations and says what must come out where that does not depend on their order;
`check/market_check.py` judges the final state where it does. Operations are under way many at a time, while the books
are audited again and again.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from actorflow import Client, DeadlineExceededError
from actorflow.gateway import serving
from actorflow.runtime.host import Host
from actorflow.testing import check_nothing_left, simulate, simulated
from examples.marketplace import app as market
from examples.marketplace.goods import Checkout, Choice, Item, Line, NewPrice, NewVersion, Offer, Order

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE / "ref"), str(HERE / "check")]
ref = importlib.import_module("market_ref")
check = importlib.import_module("market_check").check

CASES = {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "show").glob("market-*.json"))}
EXACT, MIXED, SCARCE = (CASES[name] for name in ("market-01-checkout", "market-02-mixed", "market-02-scarce-example"))
IN_FLIGHT, AUDITS = 64, 30
MIX = (40, 3, 2, 40, 15)


class Play:
    """One run of a script of operations: what was answered, and what is there in the end.

    A customer does one thing after the other, as people do. chance: cuts some checkouts off, whose outcome is unknown.
    """

    def __init__(
        self,
        clients: Sequence[Client],
        params: dict[str, Any],
        *,
        in_flight: int = IN_FLIGHT,
        chance: random.Random | None = None,
    ) -> None:
        self.clients = itertools.cycle(clients)
        self.params = params
        world = {name: params[name] for name in ("sellers", "products", "qty")}
        self.world = ref.world(**world)
        self.ops = ref.script(**params)
        self.places = asyncio.Semaphore(in_flight)
        self.turns: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.chance = chance
        self.unknown: set[int] = set()
        self.answers: list[dict[str, Any]] = []
        self.dashboards: list[dict[str, Any]] = []
        self.done = itertools.count(1)
        self.audits = 0

    async def run(self) -> None:
        client = next(self.clients)
        await asyncio.gather(
            *(
                client.request(market.offer, Offer(*item, row["price"], row["freight"], self.params["qty"]))
                for item, row in self.world.items()
            )
        )
        await asyncio.gather(*map(self.do, self.ops))

    async def audit(self) -> None:
        books = await next(self.clients).request(market.books, None)
        assert books.faults == ()
        total = self.params["qty"] * len(self.world)
        assert books.available + books.sold == total
        assert books.taken == books.owed + books.earned
        self.audits += 1

    async def do(self, op: dict[str, Any]) -> None:
        if op["op"] == "checkout":
            async with self.turns[op["customer"]], self.places:
                await self.checkout(next(self.clients), op)
        else:
            async with self.places:
                await getattr(self, op["op"])(next(self.clients), op)
        if next(self.done) % (len(self.ops) // AUDITS) == 0:
            await self.audit()

    async def checkout(self, client: Client, op: dict[str, Any]) -> None:
        lines = [
            Line(
                item["seller"], item["product"], item["qty"], item["unit_price"], item["freight"],
                item["version"], item["voucher"],
            )
            for item in op["items"]
        ]  # fmt: skip
        await asyncio.gather(*(client.request(market.cart, Choice(op["customer"], line)) for line in lines))
        wanted = Checkout(op["id"], op["customer"], op["pay"])
        try:
            order = await self.ask(client, wanted)
        except DeadlineExceededError:
            self.unknown.add(op["id"])
            gone = (Line(line.seller, line.product, 0, 0, 0) for line in lines)
            await asyncio.gather(*(client.request(market.cart, Choice(op["customer"], line)) for line in gone))
            return
        reasons = {"nothing left": "no_items", "payment failed": "payment_failed"}
        self.answers.append(
            {"id": op["id"], "ok": order.status == "ready for shipment", "reason": reasons.get(order.status),
             "total_invoice": order.cents}
        )  # fmt: skip

    async def ask(self, client: Client, wanted: Checkout) -> Order:
        if self.chance is None or self.chance.random() < 0.7:
            return await client.request(market.checkout, wanted)
        patience_s = self.chance.random() * 0.03
        if self.chance.random() < 0.5:
            return await client.request(market.checkout, wanted, timeout_s=patience_s)
        try:
            async with asyncio.timeout(patience_s):
                return await client.request(market.checkout, wanted)
        except TimeoutError:
            raise DeadlineExceededError("its customer left") from None

    async def price_update(self, client: Client, op: dict[str, Any]) -> None:
        await client.request(market.new_price, NewPrice(op["seller"], op["product"], op["price"]))
        self.answers.append({"id": op["id"], "ok": True})

    async def product_update(self, client: Client, op: dict[str, Any]) -> None:
        await client.request(market.new_version, NewVersion(op["seller"], op["product"], op["version"]))
        self.answers.append({"id": op["id"], "ok": True})

    async def delivery(self, client: Client, op: dict[str, Any]) -> None:
        packages = await client.request(market.delivery, None)
        self.answers.append({"id": op["id"], "ok": True, "packages": packages})

    async def dashboard(self, client: Client, op: dict[str, Any]) -> None:
        seen = await client.request(market.dashboard, op["seller"])
        entries = [[entry.order, entry.product, entry.quantity, entry.cents] for entry in seen.entries]
        self.dashboards.append({"id": op["id"], "seller": op["seller"], "sum": seen.owed, "entries": entries})
        self.answers.append({"id": op["id"], "ok": True})

    # -- what is there in the end

    async def final(self) -> dict[str, Any]:
        """Return the final state in the shape of the reference, as everybody can see it through the app's streams."""
        client = next(self.clients)
        products = [await client.request(market.show, Item(*item)) for item in self.world]
        stock = [
            {"seller": each.seller, "product": each.product, "qty_available": each.available,
             "qty_reserved": each.reserved, "version": each.version, "price": each.price}
            for each in products
        ]  # fmt: skip
        final: dict[str, Any] = {"stock": stock, "answers": self.answers, "dashboards": self.dashboards}
        final |= {"orders": [], "payments": [], "shipments": []}
        for op in self.ops:
            if op["op"] == "checkout":
                await self.add_order(client, op["id"], final)
        return final

    async def add_order(self, client: Client, number: int, final: dict[str, Any]) -> None:
        try:
            tracking = await client.request(market.track, number)
        except market.UnknownOrder:
            return
        order = tracking.order
        if order.status == "cancelled":
            assert order.id in self.unknown
            assert not tracking.payments
            return
        items = [
            {"seller": line.seller, "product": line.product, "qty": line.quantity, "unit_price": line.price,
             "voucher": line.discount, "freight": line.freight, "total_item": line.cents - line.freight}
            for line in order.lines
        ]  # fmt: skip
        key = {"id": order.id, "customer": order.customer}
        status = order.status.upper().replace(" ", "_")
        final["orders"].append({**key, "items": items, "total_invoice": order.cents, "status": status})
        if tracking.payments:
            lines = [[payment.means, payment.cents] for payment in tracking.payments]
            final["payments"].append({**key, "lines": lines})
        if order.status in {"ready for shipment", "delivered"}:
            packages = [
                {"seller": line.seller, "product": line.product, "qty": line.quantity,
                 "status": "shipped" if line.seller in tracking.under_way else "delivered"}
                for line in order.lines
            ]  # fmt: skip
            final["shipments"].append({**key, "packages": packages})

    async def facts(self) -> dict[str, Any]:
        """Return what a case of checkouts alone expects."""
        final, client = await self.final(), next(self.clients)
        paid = [order for order in final["orders"] if order["status"] == "READY_FOR_SHIPMENT"]
        seen = [await client.request(market.dashboard, seller) for seller in range(self.params["sellers"])]
        rows = {
            "stock": [[row["seller"], row["product"], row["qty_available"], row["qty_reserved"]]
                      for row in final["stock"]],
            "orders": [[row["id"], row["customer"], row["status"], row["total_invoice"]] for row in final["orders"]],
            "payment_lines": [[row["id"], *sorted(row["lines"])] for row in final["payments"]],
            "seller_dashboard": [[each.seller, each.owed, len(each.entries)] for each in seen],
        }  # fmt: skip
        return {
            "checkouts": len(self.answers),
            "paid_orders": len(paid),
            "payment_failed": len(self.answers) - len(paid),
            "revenue": sum(order["total_invoice"] for order in paid),
            "packages": sum(len(shipment["packages"]) for shipment in final["shipments"]),
            **{f"{name}_sha256": ref.rows_hash(each)[1] for name, each in rows.items()},
            "script_sha256": ref.seq_hash(self.ops)[1],
        }

    async def violations(self) -> list[str]:
        found: list[str] = check(self.ops, await self.final(), self.params["qty"], self.unknown)
        if self.unknown:  # what was cut off had reserved goods for a while, so others were refused for a good reason
            found = [violation for violation in found if not violation.startswith("M5")]
        return found


async def assert_at_rest(host: Host) -> None:
    """What has ended may take a few turns of the event loop to be cleared away."""
    for _ in range(200):
        if not host.requests and not host.ready and all(locks.idle for locks in host.spaces.values()):
            break
        await asyncio.sleep(0.005)
    check_nothing_left(host)
    assert all(locks.idle for locks in host.spaces.values()), "a lock is held"
    assert not host.dead_letters.list()


def scaled(case: dict[str, Any], count: int) -> dict[str, Any]:
    return {**case["params"], "n": count}


# -- in one process


@pytest.mark.parametrize(
    ("count", "strict"), [(300, False), (300, True), pytest.param(3000, False, marks=pytest.mark.slow)]
)
async def test_checkouts_end_in_the_one_state_they_can_end_in(count: int, strict: bool) -> None:
    params = scaled(EXACT, count)
    local = market.app.local(strict=strict)

    async with local as client:
        play = Play([client], params)
        await play.run()
        facts = await play.facts()
        await assert_at_rest(local.host)

    assert facts == (EXACT["expected"] if count == EXACT["params"]["n"] else ref.exact(**params))
    assert play.audits >= AUDITS


@pytest.mark.parametrize(
    "params",
    [
        pytest.param(scaled(MIXED, 600), id="mixed"),
        pytest.param(scaled(SCARCE, 300), id="scarce"),
        pytest.param(MIXED["params"], id="market-02-mixed", marks=pytest.mark.slow),
        pytest.param(SCARCE["params"], id="market-02-scarce-example", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
async def test_every_invariant_holds_after_a_mixed_load(params: dict[str, Any], strict: bool) -> None:
    local = market.app.local(strict=strict)

    async with local as client:
        play = Play([client], params)
        await play.run()
        violations = await play.violations()
        await assert_at_rest(local.host)

    assert violations == []
    assert play.audits >= AUDITS


async def test_every_invariant_holds_although_customers_leave_and_deadlines_pass() -> None:
    params = {**MIXED["params"], "n": 800, "mix": MIX}
    local = market.app.local()

    async with local as client:
        play = Play([client], params, chance=random.Random(1))
        await play.run()
        await assert_at_rest(local.host)
        violations = await play.violations()
        books = await client.request(market.books, None)

    assert violations == []
    assert books.reserved == 0
    assert len(play.unknown) > 10


# -- in virtual time, in an order that a seed decides


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cut", [False, True])
def test_every_invariant_holds_in_any_order(seed: int, cut: bool) -> None:
    params = {"seed": seed, "sellers": 3, "products": 3, "qty": 40, "customers": 20, "n": 120, "mix": MIX}

    async def system() -> tuple[list[str], int]:
        async with simulated(market.app) as (client, host):
            play = Play([client], params, chance=random.Random(seed) if cut else None)
            await play.run()
            await assert_at_rest(host)
            books = await client.request(market.books, None)
            return await play.violations(), books.reserved

    assert simulate(system, seed=seed) == ([], 0)


# -- from far away


@pytest.mark.parametrize(
    "params", [scaled(MIXED, 400), pytest.param({**MIXED["params"], "mix": MIX}, marks=pytest.mark.slow)]
)
async def test_every_invariant_holds_for_customers_that_are_far_away(params: dict[str, Any]) -> None:
    async with serving(market.app, port=0) as gateway:
        clients = [Client(gateway.url) for _ in range(4)]
        play = Play(clients, params)
        await play.run()
        violations = await play.violations()
        for client in clients:
            await client.close()
        await assert_at_rest(gateway._host)

    assert violations == []


async def test_errors_of_the_marketplace_keep_their_class_far_away() -> None:
    async with serving(market.app, port=0) as gateway, Client(gateway.url) as client:
        await client.request(market.offer, Offer(1, 1, 100, 10, 5))
        for number in (1, 2):
            await client.request(market.cart, Choice(7, Line(1, 1, 1, 100, 10)))
            order = await client.request(market.checkout, Checkout(number, 7))
            assert order.status == "ready for shipment"

        with pytest.raises(market.OrderExists):
            await client.request(market.checkout, Checkout(1, 8))
        with pytest.raises(market.UnknownOrder):
            await client.request(market.track, 3)
        with pytest.raises(market.UnknownProduct):
            await client.request(market.new_price, NewPrice(1, 2, 3))


async def test_plain_json_is_all_that_the_marketplace_asks_for() -> None:
    async with serving(market.app, port=0) as gateway, aiohttp.ClientSession() as session:

        async def post(stream: str, item: Any) -> Any:
            async with session.post(f"{gateway.url}/streams/{stream}", json=item) as answer:
                return answer.status, await answer.json()

        line = {"seller": 1, "product": 2, "quantity": 3, "price": 100, "freight": 10}
        await post("offer", {**line, "quantity": 5})
        assert await post("cart", {"customer": 7, "line": line}) == (200, 310)
        status, order = await post("checkout", {"id": 1, "customer": 7})
        assert (status, order["status"], order["cents"]) == (200, "ready for shipment", 310)
        status, seen = await post("dashboard", 1)
        assert seen["entries"] == [{"order": 1, "product": 2, "quantity": 3, "cents": 310}]
        assert await post("delivery", None) == (200, 1)
        status, books = await post("books", None)
        assert (books["earned"], books["sold"], books["faults"]) == (310, 3, [])

        for wrong in ({"customer": 7}, {"customer": 7, "line": {**line, "quantity": -1}}, {"customer": 7, "line": 1}):
            assert (await post("cart", wrong))[0] == 422


# -- the program that comes with it


def test_the_load_program_ends_with_books_that_add_up() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.marketplace.load", "--requests", "600"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "the books add up" in done.stdout
