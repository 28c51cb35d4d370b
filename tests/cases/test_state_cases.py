"""The cases of shared state, each with every way of touching it that fits, and in small under the simulated loop.

After each run every request has ended once, nothing is left, and nobody holds a key (`tests.cases.running`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from actorflow import Client, DeadlineExceededError
from actorflow.testing import simulate
from tests.cases import given
from tests.cases.given import case, checks, common, tx
from tests.cases.running import breath, by_many, meanwhile, running, running_simulated
from tests.cases.state_programs import (
    HOTEL_KINDS,
    Account,
    Booking,
    Following,
    NoRating,
    Post,
    Refused,
    Transfer,
    Trip,
    bank,
    capacity,
    hotel,
    media,
    shared_state,
    social,
    travel,
)

SEEDS = range(int(os.environ.get("SEEDS", "4")))


def stumbling(seed: int) -> Callable[[], Any]:
    """Return a pause of random length, for the simulated loop."""
    chance = random.Random(seed)

    async def pause() -> None:
        while chance.random() < 0.5:
            await asyncio.sleep(chance.choice([0.0, 0.001, 0.1]))

    return pause


# -- bank


async def transfers(
    client: Client, params: dict[str, Any], *, callers: int, keys: bool, audits: bool = True
) -> tuple[list[dict[str, Any]], dict[int, bool], list[list[int]]]:
    """Open the accounts, make all transfers while somebody audits; return operations, answers and all audits."""
    names = ("seed", "accounts", "n", "theta", "max_amount", "dup_percent")
    ops = tx.bank_ops(**{name: params[name] for name in names if name in params})
    for number in range(params["accounts"]):
        await client.request("open", Account(number, params["initial"]))
    answers: dict[int, bool] = {}

    async def move(op: dict[str, Any]) -> None:
        transfer = Transfer(op["id"], op["src"], op["dst"], op["amount"])
        key = f"transfer {op['id']}" if keys else None
        answer = await client.request("transfer", transfer, key=key)
        assert answers.setdefault(op["id"], answer) == answer, "one request, two answers"

    async def audit() -> Any:
        return await client.request("audit", 0)

    async with meanwhile(audit) if audits else contextlib.nullcontext([]) as audited:
        await by_many(callers, ops, move)
    return ops, answers, audited


@pytest.mark.parametrize("name", ["state-01-bank", "state-01-bank-zipf"])
@pytest.mark.parametrize("how", ["locks", pytest.param("transact", marks=pytest.mark.slow)])
async def test_a_bank_moves_money_once_and_keeps_all_of_it_at_every_moment(name: str, how: str) -> None:
    params, expected = case(name)["params"], case(name)["expected"]

    async with running(bank(how, pause=breath)) as client:
        ops, answers, audited = await transfers(client, params, callers=32, keys=True)
        volume = await client.cell("volume")

    balances = audited[-1]
    assert len(audited) > 10
    assert checks.snapshot_sums(audited, expected["sum"]) == []
    assert checks.bank(ops, answers, balances, params["initial"]) == []
    assert volume == sum(op["amount"] for op in ops if not op.get("dup"))
    assert len(ops) == expected["requests_sent"]
    assert len(answers) == expected["distinct_requests"]
    assert (sum(balances), min(balances), max(balances)) == (expected["sum"], expected["min"], expected["max"])
    assert balances[:10] == expected["first_10"]
    assert common.seq_hash(balances)[1] == expected["balances_sha256"]


@pytest.mark.parametrize("how", ["locks", "one-by-one", "transact", "upgrade"])
async def test_a_bank_with_little_money_never_lends_any(how: str) -> None:
    params = case("state-02-bank-scarce")["params"]

    async with running(bank(how, pause=breath, reruns=1000)) as client:
        ops, answers, audited = await transfers(client, params, callers=16, keys=False)

    total = params["accounts"] * params["initial"]
    assert total == case("state-02-bank-scarce")["expected"]["total_money"]
    assert checks.snapshot_sums(audited, total) == []
    assert all(min(balances) >= 0 for balances in audited)
    assert checks.bank(ops, answers, audited[-1], params["initial"]) == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["locks", "one-by-one", "transact", "upgrade"])
def test_a_small_bank_holds_in_every_order_of_events(how: str, seed: int) -> None:
    params = {"seed": seed, "accounts": 6, "n": 120, "theta": 0.5, "max_amount": 50, "dup_percent": 10, "initial": 60}

    async def system() -> None:
        async with running_simulated(bank(how, pause=stumbling(seed), reruns=1000)) as client:
            ops, answers, audited = await transfers(client, params, callers=8, keys=True)
        assert checks.snapshot_sums(audited, 360) == []
        assert checks.bank(ops, answers, audited[-1], 60) == []

    simulate(system, seed=seed, jitter_s=0.0005)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["locks", "one-by-one", "upgrade"])
def test_a_transfer_that_is_cut_off_has_moved_all_or_nothing(how: str, seed: int) -> None:
    """Deadlines and callers that leave, while keys are held and waited for."""
    chance = random.Random(seed)
    ops = tx.bank_ops(seed, 4, 80, max_amount=20)
    answers: dict[int, bool] = {}

    async def system() -> None:
        async with running_simulated(bank(how, pause=stumbling(seed), reruns=1000)) as client:
            for number in range(4):
                await client.request("open", Account(number, 100))

            async def move(op: dict[str, Any]) -> None:
                transfer = Transfer(**op)
                asking = asyncio.ensure_future(
                    client.request("transfer", transfer, timeout_s=chance.choice([None, 0.05, 0.5]))
                )
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.choice([0.0, 0.01, 0.2]))
                    asking.cancel()
                with contextlib.suppress(DeadlineExceededError, asyncio.CancelledError):
                    answers[op["id"]] = await asking

            async def audit() -> Any:
                return await client.request("audit", 0)

            async with meanwhile(audit) as audited:
                await by_many(8, ops, move)
            volume = await client.cell("volume")
        unknown = {op["id"] for op in ops} - answers.keys()
        assert checks.snapshot_sums(audited, 400) == []
        assert min(audited[-1]) >= 0
        assert checks.bank(ops, answers, audited[-1], 100, unknown=unknown) == []
        moved = sum(op["amount"] for op in ops if answers.get(op["id"]))
        assert volume >= moved
        assert unknown or volume == moved

    simulate(system, seed=seed, jitter_s=0.0005)


# -- hotel


def bookings(ops: list[dict[str, Any]]) -> list[Booking]:
    return [Booking(op["id"], op["hotel"], op["from"]) for op in ops]


@pytest.mark.parametrize("kind", HOTEL_KINDS)
async def test_a_hotel_sells_each_night_as_often_as_it_has_rooms(kind: str) -> None:
    params, expected = case("state-04-hotel")["params"], case("state-04-hotel")["expected"]
    ops = tx.hotel_ops(**params)

    async with running(hotel(kind, pause=breath)) as client:
        # eight streams of bookings at once, as eight websites would send them
        answers: dict[int, bool] = {}

        async def site(part: list[Booking]) -> None:
            async for number, accepted in client.stream("book", items=part):
                assert number not in answers, "answered twice"
                answers[number] = accepted

        await asyncio.gather(*(site(bookings(ops)[number::8]) for number in range(8)))
        sold = await client.cell_range("sold", limit=10_000)
        by_hotel = dict(await client.cell_range("accepted", limit=1000))

    assert all(capacity(number) == tx.hotel_cap(number) for number in range(params["hotels"]))
    assert len(answers) == expected["requests"]
    assert checks.hotel(ops, answers, tx.hotel_cap) == []
    assert sum(answers.values()) == expected["accepted"] == sum(count for _, count in sold) == sum(by_hotel.values())
    assert len(answers) - sum(answers.values()) == expected["rejected"]
    assert sum(count == capacity(key[0]) for key, count in sold) == expected["full_hotel_nights"]
    rows = [[*key, count] for key, count in sold]
    assert common.rows_hash(rows)[1] == expected["accepted_per_hotel_night_sha256"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", HOTEL_KINDS)
def test_a_small_hotel_holds_in_every_order_of_events(kind: str, seed: int) -> None:
    ops = tx.hotel_ops(seed, 3, 2, 250)
    answers: dict[int, bool] = {}

    async def system() -> None:
        async with running_simulated(hotel(kind, pause=stumbling(seed))) as client:

            async def site(part: list[Booking]) -> None:
                answers.update([answer async for answer in client.stream("book", items=part)])

            await asyncio.gather(*(site(bookings(ops)[number::4]) for number in range(4)))

    simulate(system, seed=seed, jitter_s=0.0005)
    assert checks.hotel(ops, answers, tx.hotel_cap) == []


# -- travel


async def trips(client: Client, ops: list[dict[str, Any]], *, callers: int) -> dict[int, bool]:
    async def book(op: dict[str, Any]) -> tuple[int, bool]:
        try:
            return op["id"], await client.request("travel", Trip(**op))
        except Refused:
            return op["id"], False

    answers = await by_many(callers, ops, book)
    assert len(answers) == len(ops), "every request is answered once"
    return dict(answers)


async def left(client: Client, cell: str, count: int, places: int) -> list[int]:
    taken = dict(await client.cell_range(cell))
    return [places - taken.get(number, 0) for number in range(count)]


@pytest.mark.parametrize("how", ["locks", "either-first", "calls"])
async def test_a_traveller_gets_hotel_and_flight_or_neither(how: str) -> None:
    params = case("state-06-travel")["params"]
    rooms, seats = params["hotel_capacity"], params["flight_capacity"]
    ops = tx.travel_ops(params["seed"], params["hotels"], params["flights"], params["n"])

    async with running(travel(how, rooms=rooms, seats=seats, pause=breath)) as client:
        answers = await trips(client, ops, callers=24)
        rooms_left = await left(client, "hotels", params["hotels"], rooms)
        seats_left = await left(client, "flights", params["flights"], seats)

    violations = checks.travel(ops, answers, rooms, seats, rooms_left, seats_left)
    assert violations == case("state-06-travel")["expected"]["violations"]
    assert min(seats_left) == 0, "the case does not reach its limits"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["locks", "either-first", "calls"])
def test_few_rooms_and_seats_hold_in_every_order_of_events(how: str, seed: int) -> None:
    ops = tx.travel_ops(seed, 3, 3, 60)

    async def system() -> None:
        async with running_simulated(travel(how, rooms=15, seats=12, pause=stumbling(seed))) as client:
            answers = await trips(client, ops, callers=8)
            rooms_left, seats_left = await left(client, "hotels", 3, 15), await left(client, "flights", 3, 12)
        assert checks.travel(ops, answers, 15, 12, rooms_left, seats_left) == []

    simulate(system, seed=seed, jitter_s=0.0005)


# -- social network


def friends(graph: str) -> dict[int, set[int]]:
    with gzip.open(given.DATA / graph, "rt") as lines:
        edges = [tuple(map(int, line.split())) for line in lines if line[0].isdigit()]
    found: dict[int, set[int]] = defaultdict(set)
    for one, other in edges:
        found[one].add(other)
        found[other].add(one)
    return found


async def post_all(client: Client, following: dict[int, set[int]], count: int) -> tuple[int, list[list[Any]]]:
    """Follow, post everything (each author its own stream of posts, all at once); return writes and timelines."""
    for author, followers in following.items():
        for follower in followers:
            await client.request("follow", Following(author, follower))

    async def posting(author: int) -> int:
        posts = (Post(author, number) for number in range(count))
        return len([written async for written in client.stream("post", items=posts)])

    users = range(len(following))
    writes = sum(await asyncio.gather(*map(posting, users)))
    return writes, [await client.request("timeline", user) for user in users]


@pytest.mark.parametrize("how", ["logs", "rows"])
async def test_every_post_is_on_every_timeline_in_the_order_of_its_author(how: str) -> None:
    params, expected = case("state-12-social")["params"], case("state-12-social")["expected"]
    following, count = friends(params["graph"]), params["posts_per_user"]

    async with running(social(how, pause=breath)) as client:
        writes, timelines = await post_all(client, following, count)

    users = range(params["users"])
    sets = [[(author, number) for author in following[user] for number in range(count)] for user in users]
    assert checks.timelines(sets, timelines) == []
    assert writes == expected["timeline_writes"]
    assert common.seq_hash(list(map(len, timelines)))[1] == expected["timeline_length_sha256"]
    assert max(map(len, timelines)) == expected["longest_timeline"]
    assert common.seq_hash([sorted(map(list, each)) for each in timelines])[1] == expected["timeline_sets_sha256"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["logs", "rows"])
def test_small_timelines_hold_in_every_order_of_events(how: str, seed: int) -> None:
    following = {0: {1, 2}, 1: {0, 2}, 2: {0, 1, 3}, 3: {2}}

    async def system() -> None:
        async with running_simulated(social(how, pause=stumbling(seed))) as client:
            _, timelines = await post_all(client, following, 5)
        sets = [[(author, number) for author in following[user] for number in range(5)] for user in range(4)]
        assert checks.timelines(sets, timelines) == []

    simulate(system, seed=seed, jitter_s=0.0005)


# -- reviews


def drafts(seed: int, users: int, movies: int, n: int) -> list[dict[str, Any]]:
    chance = common.SplitMix64(seed)
    found = []
    for number in range(n):
        user, movie, rating = chance.below(users), chance.below(movies), chance.below(11)
        found.append({"id": number, "user": user, "movie": movie, "rating": rating, "text": f"text-{tx.mix64(number)}"})
    return found


async def test_a_review_is_stored_once_and_only_when_all_its_parts_are_there() -> None:
    params, expected = case("state-13-media")["params"], case("state-13-media")["expected"]
    sent = drafts(**params)
    incomplete = [{**draft, "id": -1 - draft["id"], "rating": None} for draft in sent[::50]]
    again = [dict(draft) for draft in sent[::20]]

    async with running(media(pause=breath)) as client:

        async def review(draft: dict[str, Any]) -> int | None:
            try:
                return await client.request("review", draft)
            except NoRating:
                return None

        answers = await by_many(32, [*sent, *incomplete, *again], review)
        stored = [[number, *review] for number, review in await client.cell_range("reviews", limit=10_000)]
        of_user = dict(await client.cell_range("of_user", limit=10_000))
        of_movie = dict(await client.cell_range("of_movie", limit=10_000))
        ratings = dict(await client.cell_range("ratings", limit=10_000))

    numbers = [draft["id"] for draft in sent]
    assert answers == [*numbers, *[None] * len(incomplete), *(draft["id"] for draft in again)]
    assert len(stored) == expected["reviews"]
    assert common.rows_hash(stored)[1] == expected["reviews_sha256"]
    assert len(of_user) == expected["users_with_reviews"]
    assert sorted(number for each in of_user.values() for number in each) == numbers
    assert sorted(number for each in of_movie.values() for number in each) == numbers
    rows = [[movie, len(each), ratings[movie]] for movie, each in of_movie.items()]
    assert common.rows_hash(rows)[1] == expected["movie_count_and_rating_sum_sha256"]
    busiest, count = expected["busiest_movie"]
    assert len(of_movie[busiest]) == count == max(map(len, of_movie.values()))


# -- adds, appends and reads of the same keys


def operations(seed: int, keys: int, n: int, write_percent: int) -> list[tuple[str, dict[str, int]]]:
    chance = common.SplitMix64(seed)
    found = []
    for number in range(n):
        key, kind = chance.below(keys), chance.below(100)
        if kind < write_percent:
            found.append(("add", {"id": number, "key": key, "count": 1 + chance.below(9)}))
        else:
            found.append(("append" if kind < 2 * write_percent else "read", {"id": number, "key": key}))
    return found


async def play(client: Client, ops: list[tuple[str, dict[str, int]]], *, callers: int, slow: bool) -> None:
    """Do all operations; a reader sees all that was seen, by anybody, before it began to read."""
    seen: dict[int, tuple[int, list[int]]] = defaultdict(lambda: (0, []))

    async def do(op: tuple[str, dict[str, int]]) -> None:
        kind, item = op
        if kind != "read":
            assert await client.request("slow-add" if kind == "add" and slow else kind, item) == item["id"]
            return
        total_before, appended_before = seen[item["key"]]
        total, appended = await client.request("read", item)
        assert total >= total_before
        assert appended[: len(appended_before)] == appended_before
        seen[item["key"]] = max(total, seen[item["key"]][0]), max(appended, seen[item["key"]][1], key=len)

    await by_many(callers, ops, do)


async def state_of(client: Client, how: str) -> tuple[dict[int, int], dict[int, list[int]]]:
    appended = await client.cell_range("logs" if how == "merged" else "lists", limit=10_000)
    return dict(await client.cell_range("sums", limit=10_000)), {key: list(each) for key, each in appended}


@pytest.mark.parametrize("how", ["merged", "owned", "locks"])
async def test_adds_commute_and_no_append_is_lost_while_others_read(how: str) -> None:
    params, expected = case("state-14-shared-state")["params"], case("state-14-shared-state")["expected"]
    ops = operations(params["seed"], params["keys"], params["n"], params["write_percent"])

    async with running(shared_state(how, pause=breath)) as client:
        await play(client, ops, callers=24, slow=how == "locks")
        sums, appended = await state_of(client, how)

    assert {kind: sum(op[0] == kind for op in ops) for kind in expected["ops"]} == expected["ops"]
    assert sum(sums.values()) == expected["total"]
    assert common.rows_hash([[key, total] for key, total in sums.items()])[1] == expected["sums_sha256"]
    assert len(appended) == expected["keys_with_appends"]
    rows = [[key, sorted(each)] for key, each in appended.items()]
    assert common.rows_hash(rows)[1] == expected["appended_sets_sha256"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["merged", "owned", "locks"])
def test_few_keys_hold_in_every_order_of_events(how: str, seed: int) -> None:
    ops = operations(seed, 3, 150, 40)

    async def system() -> None:
        async with running_simulated(shared_state(how, pause=stumbling(seed))) as client:
            await play(client, ops, callers=10, slow=True)
            sums, appended = await state_of(client, how)
        for key in range(3):
            assert sums[key] == sum(op["count"] for kind, op in ops if kind == "add" and op["key"] == key)
            assert sorted(appended[key]) == [op["id"] for kind, op in ops if kind == "append" and op["key"] == key]

    simulate(system, seed=seed, jitter_s=0.0005)


# -- two locks


async def move_between(client: Client, pairs: int, n: int, seed: int, *, callers: int) -> list[int]:
    chance = common.SplitMix64(seed)
    ops = []
    for number in range(n):
        src = chance.below(pairs)
        ops.append(Transfer(number, src, (src + 1 + chance.below(pairs - 1)) % pairs, 1))
    ways = {(op.src, op.dst) for op in ops}
    assert len(ways) == pairs * (pairs - 1), "not every pair is locked in both orders"
    for number in range(pairs):
        await client.request("open", Account(number, n))

    async def move(transfer: Transfer) -> bool:
        return await client.request("transfer", transfer)

    assert await by_many(callers, ops, move) == [True] * n, "every operation is answered"
    return [balance - n for balance in await client.request("audit", 0)]


@pytest.mark.parametrize("how", ["locks", "one-by-one", "upgrade", "transact"])
async def test_whoever_locks_two_keys_in_either_order_is_answered(how: str) -> None:
    params, expected = case("state-15-two-locks")["params"], case("state-15-two-locks")["expected"]

    async with running(bank(how, pause=breath, reruns=10_000)) as client:
        pairs = params["pairs"]
        assert pairs * (pairs - 1) // 2 == expected["pairs_locked_in_both_orders"]
        balances = await move_between(client, pairs, params["n"], params["seed"], callers=16)

    assert sum(balances) == expected["sum"]
    assert common.seq_hash(balances)[1] == expected["balances_sha256"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["locks", "one-by-one", "upgrade", "transact"])
def test_two_locks_hold_in_every_order_of_events(how: str, seed: int) -> None:
    async def system() -> None:
        async with running_simulated(bank(how, pause=stumbling(seed), reruns=10_000)) as client:
            assert sum(await move_between(client, 3, 80, seed, callers=8)) == 0

    simulate(system, seed=seed, jitter_s=0.0005)
