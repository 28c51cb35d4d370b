"""Programs for the cases of shared state. Each is a function that returns an app; `pause` is awaited by its async
operators while they hold keys, so that a test decides how much may come in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actorflow import App, Limits, Operator
from tests.cases.running import Pause, no_pause


class Refused(Exception):
    """There is not enough of what was asked for."""


# -- a bank


@dataclass(frozen=True, slots=True)
class Account:
    """Opens an account."""

    account: int
    balance: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """Moves money from one account to another."""

    id: int
    src: int
    dst: int
    amount: int


def bank(how: str = "locks", *, pause: Pause = no_pause, reruns: int = 20) -> App:
    """Return a bank: streams "open", "transfer" (True, or False where there is too little money) and "audit".

    how: "locks" both accounts by one call; "one-by-one", payer first, so that two may wait for each other; "transact",
    a transaction of its own; "upgrade", looks under a shared lock first.
    """
    app = App("bank", limits=Limits(reruns=reruns))
    accounts = app.table("accounts", key="account", value=int)
    volume = app.counter("volume")

    class Open(Operator):
        balance = accounts.owned()

        def process(self, opened: Account) -> int:
            self.balance[opened.account] = opened.balance
            return opened.account

    class Move(Operator):
        accounts_ = accounts.exclusive()
        volume_ = volume.merged()
        concurrency = 64

        async def process(self, transfer: Transfer) -> bool:
            rows = await self.rows_of(transfer)
            if rows[transfer.src] < transfer.amount:
                return False
            rows[transfer.src] -= transfer.amount
            self.volume_.add(transfer.amount)
            await pause()
            rows[transfer.dst] += transfer.amount
            return True

        async def rows_of(self, transfer: Transfer) -> Any:
            if how == "locks":
                return await self.accounts_.lock(transfer.src, transfer.dst)
            rows = await self.accounts_.lock(transfer.src, shared=how == "upgrade")
            await pause()
            if how == "upgrade" and rows[transfer.src] < transfer.amount:
                return rows
            return await self.accounts_.lock(transfer.src, transfer.dst)

    class Transact(Operator):
        accounts_ = accounts.exclusive()
        volume_ = volume.merged()
        concurrency = 64

        async def process(self, transfer: Transfer) -> bool:
            async def move(rows: Any) -> bool:
                if rows[transfer.src] < transfer.amount:
                    return False
                rows[transfer.src] -= transfer.amount
                await pause()
                rows[transfer.dst] += transfer.amount
                return True

            moved = await self.accounts_.transact((transfer.src, transfer.dst), move)
            if moved:
                self.volume_.add(transfer.amount)
            return moved

    class Audit(Operator):
        accounts_ = accounts.snapshot()

        def process(self, _: int) -> list[int]:
            return [balance for _, balance in self.accounts_.items()]

    app.stream("open", Account, int).key_by("account").then(Open)
    app.stream("transfer", Transfer, bool).then(Transact if how == "transact" else Move)
    app.stream("audit", int, list).then(Audit)
    return app


# -- a hotel: one room on one night


@dataclass(frozen=True, slots=True)
class Booking:
    """Asks for a room in a hotel for one night."""

    id: int
    hotel: int
    night: int


def hotel(kind: str, *, pause: Pause = no_pause) -> App:
    """Return a hotel whose stream "book" answers `(id, accepted)`. `kind`: what sort of operator books."""
    app = App("hotel")
    sold = app.table("sold", key="hotel-night", value=int)
    accepted = app.counter("accepted", key="hotel")

    class Desk(Operator):
        sold_ = sold.owned()
        accepted_ = accepted.merged()

        def book(self, booking: Booking) -> tuple[int, bool]:
            night = booking.hotel, booking.night
            taken = self.sold_.get(night, 0)
            if taken >= capacity(booking.hotel):
                return booking.id, False
            self.sold_[night] = taken + 1
            self.accepted_[booking.hotel].add()
            return booking.id, True

    class Plain(Desk):
        def process(self, booking: Booking) -> tuple[int, bool]:
            return self.book(booking)

    class Async(Desk):
        concurrency = 32

        async def process(self, booking: Booking) -> tuple[int, bool]:
            taken = self.sold_.get((booking.hotel, booking.night), 0)
            await pause()
            assert self.sold_.get((booking.hotel, booking.night), 0) == taken, "somebody else had the key in hand"
            return self.book(booking)

    class Generator(Desk):
        def process(self, booking: Booking) -> Iterator[tuple[int, bool]]:
            yield self.book(booking)

    class AsyncGenerator(Desk):
        concurrency = 32

        async def process(self, booking: Booking) -> Any:
            answer = self.book(booking)
            await pause()
            yield answer

    class Batch(Desk):
        def process_batch(self, bookings: list[Booking]) -> list[tuple[int, bool]]:
            return [self.book(booking) for booking in bookings]

    class AsyncBatch(Desk):
        async def process_batch(self, bookings: list[Booking]) -> list[tuple[int, bool]]:
            answers = [self.book(booking) for booking in bookings]
            await pause()
            return answers

    class Locking(Operator):
        sold_ = sold.exclusive()
        accepted_ = accepted.merged()
        concurrency = 32

        async def process(self, booking: Booking) -> tuple[int, bool]:
            night = booking.hotel, booking.night
            rows = await self.sold_.lock(night)
            taken = rows.setdefault(night, 0)
            await pause()
            if taken >= capacity(booking.hotel):
                return booking.id, False
            rows[night] = taken + 1
            self.accepted_[booking.hotel].add()
            return booking.id, True

    kinds: dict[str, type[Operator]] = {
        "plain": Plain, "async": Async, "generator": Generator, "async generator": AsyncGenerator,
        "batch": Batch, "async batch": AsyncBatch, "locking": Locking,
    }  # fmt: skip
    app.stream("book", Booking, tuple, replies="many").key_by(
        lambda booking: (booking.hotel, booking.night), space="hotel-night"
    ).then(kinds[kind], name="desk")
    return app


HOTEL_KINDS = ("plain", "async", "generator", "async generator", "batch", "async batch", "locking")


def capacity(number: int) -> int:
    """Return how many rooms a hotel has."""
    return 20 + 10 * (number % 3)


# -- travel: a hotel and a flight, both or none


@dataclass(frozen=True, slots=True)
class Trip:
    """Asks for a room and a seat."""

    id: int
    hotel: int
    flight: int


def travel(how: str, *, rooms: int, seats: int, pause: Pause = no_pause) -> App:
    """Return an app whose stream "travel" answers whether room and seat are booked.

    how: "locks" both; "either-first", in the order that the number of the trip says; "calls" the airline while it has
    the hotel in hand, and is undone with it when there is no seat.
    """
    app = App("travel", limits=Limits(reruns=1000))
    hotels = app.table("hotels", key="hotel", value=int)
    flights = app.table("flights", key="flight", value=int)

    class Agency(Operator):
        hotels_ = hotels.exclusive()
        flights_ = flights.exclusive()
        concurrency = 32

        async def process(self, trip: Trip) -> bool:
            if how == "either-first" and trip.id % 2:
                flight = await self.flights_.lock(trip.flight)
                await pause()
                hotel = await self.hotels_.lock(trip.hotel)
            else:
                hotel = await self.hotels_.lock(trip.hotel)
                await pause()
                flight = await self.flights_.lock(trip.flight)
            taken = hotel.get(trip.hotel, 0), flight.get(trip.flight, 0)
            if taken[0] >= rooms or taken[1] >= seats:
                return False
            hotel[trip.hotel] = taken[0] + 1
            await pause()
            flight[trip.flight] = taken[1] + 1
            return True

    class Hotel(Operator):
        hotels_ = hotels.owned()
        concurrency = 32

        async def process(self, trip: Trip) -> bool:
            taken = self.hotels_.get(trip.hotel, 0)
            if taken >= rooms:
                raise Refused("rooms")
            self.hotels_[trip.hotel] = taken + 1  # nobody sees it, unless there is a seat
            await self.call("flight", trip)
            return True

    class Airline(Operator):
        flights_ = flights.owned()

        def process(self, trip: Trip) -> bool:
            taken = self.flights_.get(trip.flight, 0)
            self.flights_[trip.flight] = taken + 1
            if taken >= seats:
                raise Refused("seats")  # what was written is undone
            return True

    app.stream("flight", Trip, bool).key_by("flight").then(Airline)
    if how == "calls":
        app.stream("travel", Trip, bool).key_by("hotel").then(Hotel)
    else:
        app.stream("travel", Trip, bool).then(Agency)
    return app


# -- a social network


@dataclass(frozen=True, slots=True)
class Post:
    """The author's n-th post."""

    author: int
    number: int


@dataclass(frozen=True, slots=True)
class Following:
    """A user who reads what an author posts."""

    author: int
    follower: int


def social(how: str, *, pause: Pause = no_pause) -> App:
    """Return a network: streams "follow", "post" (a stream of posts, each answered by those who got it), "timeline".

    how: timelines are "logs" that anybody appends to, or "rows" that the operator of their user owns.
    """
    app = App("social")
    followers = app.set("followers", int, key="user")
    logs = app.log("logs", tuple, key="user")
    rows = app.table("rows", key="user", value=tuple)

    class Follow(Operator):
        followers_ = followers.merged()

        def process(self, following: Following) -> int:
            self.followers_[following.author].add(following.follower)
            return following.follower

    class Fan(Operator):
        """Reads who follows, beside whoever changes that, and hands the post to each."""

        followers_ = followers.snapshot()

        def process(self, post: Post) -> Iterator[tuple[int, Post]]:
            for follower in self.followers_[post.author]:
                yield follower, post

    class Append(Operator):
        logs_ = logs.merged()

        def process(self, item: tuple[int, Post]) -> tuple[int, int, int]:
            user, post = item
            self.logs_[user].append((post.author, post.number))
            return user, post.author, post.number

    class Insert(Operator):
        rows_ = rows.owned()
        concurrency = 16

        async def process(self, item: tuple[int, Post]) -> tuple[int, int, int]:
            user, post = item
            before = self.rows_.setdefault(user, ())
            await pause()
            self.rows_[user] = (*before, (post.author, post.number))
            return user, post.author, post.number

    class Timeline(Operator):
        logs_ = logs.snapshot()
        rows_ = rows.snapshot()

        def process(self, user: int) -> list[tuple[int, int]]:
            return list(self.logs_[user]) if how == "logs" else list(self.rows_.get(user, ()))

    app.stream("follow", Following, int).then(Follow)
    written = app.stream("post", Post, tuple, replies="many").then(Fan)
    if how == "logs":
        written.then(Append)
    else:
        written.key_by(lambda item: item[0], space="user").then(Insert)
    app.stream("timeline", int, list).then(Timeline)
    return app


# -- reviews of films, gathered from five parts


class NoRating(Exception):
    """A review has no rating."""


def media(*, pause: Pause = no_pause) -> App:
    """Return an app whose stream "review" composes a review from five parts, stores it once and answers its id."""
    app = App("media")
    reviews = app.table("reviews", key="review", value=tuple)
    of_user = app.log("of_user", int, key="user")
    of_movie = app.log("of_movie", int, key="movie")
    ratings = app.counter("ratings", key="movie")

    def rating(draft: dict[str, Any]) -> tuple[str, int]:
        if draft["rating"] is None:
            raise NoRating(f"of review {draft['id']}")
        return "rating", draft["rating"]

    class Text(Operator):
        concurrency = 8

        async def process(self, draft: dict[str, Any]) -> tuple[str, str]:
            await pause()
            return "text", draft["text"]

    class Store(Operator):
        reviews_ = reviews.owned()
        of_user_ = of_user.merged()
        of_movie_ = of_movie.merged()
        ratings_ = ratings.merged()

        def process(self, review: dict[str, Any]) -> int:
            number, user, movie = review["id"], review["user"], review["movie"]
            if number not in self.reviews_:
                self.of_user_[user].append(number)
                self.of_movie_[movie].append(number)
                self.ratings_[movie].add(review["rating"])
                self.reviews_[number] = (user, movie, review["rating"], review["text"])
            return number

    parts = app.stream("review", dict, int).broadcast(5)
    one = parts[0].map(lambda draft: ("id", draft["id"]), name="unique_id")
    others = [
        parts[1].map(lambda draft: ("user", draft["user"]), name="user"),
        parts[2].map(lambda draft: ("movie", draft["movie"]), name="movie"),
        parts[3].map(rating),
        parts[4].then(Text),
    ]
    one.merge(*others).collect().filter(lambda gathered: len(gathered) == 5).map(dict).key_by(
        lambda review: review["id"], space="review"
    ).then(Store)
    return app


# -- adds, appends and reads of the same keys, side by side


def shared_state(how: str, *, pause: Pause = no_pause) -> App:
    """Return an app with the streams "add" (commutes), "append" (must not be lost) and "read" (beside both).

    how: appends are "merged" into a log, or "owned" rows, or rows under "locks".
    """
    app = App("shared")
    sums = app.counter("sums", key="key")
    logs = app.log("logs", int, key="key")
    lists = app.table("lists", key="key", value=tuple)

    class Add(Operator):
        sums_ = sums.merged()

        def process(self, op: dict[str, int]) -> int:
            self.sums_[op["key"]].add(op["count"])
            return op["id"]

    class SlowAdd(Operator):
        sums_ = sums.merged()
        concurrency = 32

        async def process(self, op: dict[str, int]) -> int:
            self.sums_[op["key"]].add(op["count"] - 1)
            await pause()
            self.sums_[op["key"]].add(1)
            return op["id"]

    class Append(Operator):
        logs_ = logs.merged()

        def process(self, op: dict[str, int]) -> int:
            self.logs_[op["key"]].append(op["id"])
            return op["id"]

    class OwnedAppend(Operator):
        lists_ = lists.owned()

        def process(self, op: dict[str, int]) -> int:
            self.lists_[op["key"]] = (*self.lists_.get(op["key"], ()), op["id"])
            return op["id"]

    class LockedAppend(Operator):
        lists_ = lists.exclusive()
        concurrency = 32

        async def process(self, op: dict[str, int]) -> int:
            rows = await self.lists_.lock(op["key"])
            before = rows.get(op["key"], ())
            await pause()
            rows[op["key"]] = (*before, op["id"])
            return op["id"]

    class Read(Operator):
        sums_ = sums.snapshot()
        logs_ = logs.snapshot()
        lists_ = lists.snapshot()

        def process(self, op: dict[str, int]) -> tuple[int, list[int]]:
            key = op["key"]
            appended = list(self.logs_[key]) if how == "merged" else list(self.lists_.get(key, ()))
            return self.sums_[key].value(), appended

    app.stream("add", dict, int).then(Add)
    app.stream("slow-add", dict, int).then(SlowAdd)
    append = app.stream("append", dict, int)
    if how == "merged":
        append.then(Append)
    elif how == "owned":
        append.key_by(lambda op: op["key"], space="key").then(OwnedAppend)
    else:
        append.then(LockedAppend)
    app.stream("read", dict, tuple).then(Read)
    return app
