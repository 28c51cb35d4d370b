"""Run a whole system on a simulated event loop: virtual time, seeded order, no real world.

Invariants:

- The only clock is `SimulatedLoop.time`. It starts at 0.0, never goes back, and moves only when nothing is ready.
- Nothing waits for real: a run ends, deadlocks or meets a limit as fast as its callbacks compute.
- The same program and the same seed give the same order of callbacks, in this process and in another one.

What a loop cannot hold stays outside: `time.time`, the module `random`, threads that the program starts itself, the
hash of strings (set `PYTHONHASHSEED` when a set of them is iterated), the moments of the cyclic garbage collector, and
a callback that never returns.

    SimulationError
    ├── DeadlockError          nothing can happen any more, and the main future is not done
    ├── SimulationLimitError   the run passed steps_max or time_max_s
    └── LeakedTaskError        main returned and left tasks behind
"""

import asyncio
import contextvars
import itertools
import math
import os
import random
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn, Self, TypeVar, TypeVarTuple

__all__ = [
    "DeadlockError",
    "LeakedTaskError",
    "SimulatedLoop",
    "SimulationError",
    "SimulationLimitError",
    "SuspendedTask",
    "simulate",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STEPS_MAX = 10_000_000
TIME_MAX_S = 86_400.0

# What a failed run may still spend on unwinding its tasks, so that a task which ignores cancellation cannot hang it.
_UNWIND_STEPS_MAX = 100_000
_UNWIND_TIME_MAX_S = 3_600.0

_ASYNCIO_FOLDER = os.path.dirname(asyncio.__file__) + os.sep


@dataclass(frozen=True, slots=True)
class SuspendedTask:
    """Say where an unfinished task stands: its name, and `file:line function` of the innermost frame it awaits in."""

    name: str
    where: str


class SimulationError(Exception):
    """Report that a simulated run cannot go on, or asked for something a simulation does not have."""


class _UnfinishedError(SimulationError):
    """Carry the unfinished tasks of a run, in the order in which they were created, and list them in the message."""

    def __init__(self, summary: str, tasks: Iterable[SuspendedTask]) -> None:
        self.tasks = tuple(tasks)
        lines = [f"  {task.name}: {task.where}" for task in self.tasks] or ["  (no unfinished task)"]
        super().__init__("\n".join([summary, *lines]))


class DeadlockError(_UnfinishedError):
    """Report that nothing is ready, no timer is set and the main future is not done; `tasks` says who waits where."""


class SimulationLimitError(_UnfinishedError):
    """Report that the run passed `steps_max` or `time_max_s`; `tasks` says who is still at work."""


class LeakedTaskError(_UnfinishedError):
    """Report that main returned while `tasks` were unfinished: they have no owner, so their errors would be lost."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Run asyncio code in virtual time, with every choice that asyncio leaves open drawn from `seed`.

    Order. Ready callbacks run first in, first out, and the seed does *not* shuffle them: asyncio documents that order
    for `call_soon`, and locks, queues, transports and `run_until_complete` itself rely on it, so a shuffle would report
    failures that no real loop can show. Two things asyncio does leave open, and these are seeded:

    - `shuffle` (default True): the order of timers due at the same instant. With False it is the order of the calls.
    - `jitter_s` (default 0.0): each `call_later`/`call_at` fires late by up to this many seconds, never early. Each
      timer draws for itself, so timers nearer to each other than `jitter_s` may fire in either order.

    Tasks and futures hash by their number, because asyncio and its users iterate sets of them (`TaskGroup` cancels its
    children in such an order), and an address would make that order differ from run to run. For the same reason an
    unnamed task is called after its number in this loop, not in this process.

    `random` is `random.Random(seed)` for the simulation's own use; the loop draws its order from another stream of the
    same seed, so that one more timer does not change what `random` gives. `run_in_executor` runs the function at once
    in the caller's thread, so awaiting its result does not let others run. Sockets, subprocesses, pipes, signals and
    other threads are refused.

    Limits: `steps_max` counts iterations of the loop, `time_max_s` is the last virtual second; both may be changed on
    the way. A `DeadlockError` or `SimulationLimitError` leaves through `run_until_complete` and not through a task;
    the loop is intact afterwards and can run again.

    Raises:
        ValueError: a limit is not positive, or `jitter_s` is negative or not finite.
    """

    # Private names of BaseEventLoop that this class reads; tests on each Python version hold them in place.
    _scheduled: list[asyncio.TimerHandle]
    _thread_id: int | None
    # Until the base class is initialised: a loop whose options are refused has nothing that `__del__` could close.
    _closed = True

    def __init__(
        self,
        *,
        seed: int = 0,
        shuffle: bool = True,
        jitter_s: float = 0.0,
        time_max_s: float = TIME_MAX_S,
        steps_max: int = STEPS_MAX,
    ) -> None:
        if not 0.0 <= jitter_s < math.inf:
            raise ValueError(f"jitter_s is {jitter_s}; expected a finite number of seconds, 0.0 or more")
        if not (time_max_s > 0.0 and steps_max > 0):
            raise ValueError(f"time_max_s is {time_max_s} and steps_max is {steps_max}; expected both above 0")
        super().__init__()
        self.seed = seed
        self.random = random.Random(seed)
        self.jitter_s = jitter_s
        self.time_max_s = time_max_s
        self.steps_max = steps_max
        self.step_count = 0
        self._shuffle = shuffle
        self._order = random.Random(f"order of {seed}")
        self._numbers = itertools.count(1)
        self._now_s = 0.0
        self._selector = _NoSelector(self._poll)
        self._clock_resolution = math.ulp(0.0)

    def time(self) -> float:
        """Return the virtual time in seconds since the loop was made."""
        return self._now_s

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule `callback` at the virtual time `when`, plus the seeded jitter; `inf` means never.

        Raises:
            ValueError: `when` is not a number.
        """
        if math.isnan(when):
            raise ValueError("a timer was set for nan; expected seconds of loop.time(), or inf for never")
        if self.jitter_s:
            when += self._order.uniform(0.0, self.jitter_s)
        rank = self._order.random() if self._shuffle else 0.0
        return super().call_at(_Instant(when, rank, next(self._numbers)), callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Do `call_soon`; a call from another thread is refused, for it would come at a moment no seed decides.

        Raises:
            SimulationError: called from another thread while the loop runs.
        """
        if self._thread_id not in (None, threading.get_ident()):
            raise SimulationError(
                "the simulation has no threads: call_soon_threadsafe() was called from "
                f"{threading.current_thread().name}; use run_in_executor(), which runs the function in place"
            )
        return self.call_soon(callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future whose place in a set does not depend on its address."""
        return _NumberedFuture(next(self._numbers), self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        """Return a task whose place in a set, and whose name if none is given, depend on its number in this loop.

        `options` are those of the running Python (`eager_start`). A task factory, when one is set, replaces all this.
        """
        # Type stubs disagree between Python versions on whether a generator is accepted.
        started: Any = coro
        if self.get_task_factory() is not None:
            return super().create_task(started, name=name, context=context, **options)
        return _NumberedTask(next(self._numbers), started, loop=self, name=name, context=context, **options)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run `func` now, in this thread, and return a future that is done; `executor` is not used.

        As in a worker thread, `func` sees no running loop and none of the caller's context variables.
        """
        future: asyncio.Future[T] = self.create_future()
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            future.set_result(contextvars.Context().run(func, *args))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            future.set_exception(error)
        finally:
            asyncio._set_running_loop(running)
        return future

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """Return the tasks of this loop that are not done, in the order in which they were created."""
        # The hash of our tasks is their number.
        return sorted(asyncio.all_tasks(self), key=hash)

    def _poll(self, timeout_s: float | None) -> None:
        """Let virtual time pass where a real loop would sleep; `None` says that there is nothing to sleep for."""
        self.step_count += 1
        if self.step_count > self.steps_max:
            raise SimulationLimitError(
                f"the simulation passed steps_max={self.steps_max} at {self._now_s} s; "
                "look for a task that never sleeps, or raise steps_max=. Unfinished:",
                map(_suspended, self.unfinished()),
            )
        if timeout_s == 0:
            return
        next_s = math.inf if timeout_s is None else float(self._scheduled[0].when())
        if next_s == math.inf:
            raise DeadlockError(
                f"deadlock at {self._now_s} s: nothing is ready, no timer is set, main is not done. Unfinished:",
                map(_suspended, self.unfinished()),
            )
        self._jump(next_s)

    def _jump(self, next_s: float) -> None:
        if next_s > self.time_max_s:
            raise SimulationLimitError(
                f"the simulation passed time_max_s={self.time_max_s}: the next timer is due at {next_s} s; "
                "look for main waiting on what never comes, or raise time_max_s=. Unfinished:",
                map(_suspended, self.unfinished()),
            )
        self._now_s = next_s
        # The base class fires what is due before time() + resolution. One unit in the last place makes that `<= time()`
        # exactly: a fixed resolution fires timers early, and vanishes in the rounding when the time is large.
        self._clock_resolution = math.ulp(next_s)

    def _process_events(self, event_list: list[object]) -> None:
        """Do nothing: there is no selector, hence no event."""

    def _write_to_self(self) -> None:
        """Do nothing: the loop is never asleep, so nobody has to wake it."""


class _NoSelector:
    """Stand where the base class polls its sockets, the one place where a real loop sleeps."""

    def __init__(self, poll: Callable[[float | None], None]) -> None:
        self._poll = poll

    def select(self, timeout_s: float | None) -> list[object]:
        self._poll(timeout_s)
        return []


class _Instant(float):
    """Order timers of one instant by rank, then number: the base class compares only what it was given as `when`."""

    __slots__ = ("tie",)

    tie: tuple[float, int]

    def __new__(cls, when_s: float, rank: float, number: int) -> Self:
        instant = super().__new__(cls, when_s)
        instant.tie = (rank, number)
        return instant

    def __lt__(self, other: float) -> bool:
        if isinstance(other, _Instant) and float.__eq__(self, other):
            return self.tie < other.tie
        return float.__lt__(self, other)


class _NumberedFuture(asyncio.Future[Any]):
    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._number = number

    def __hash__(self) -> int:
        return self._number


class _NumberedTask(asyncio.Task[T]):
    def __init__(self, number: int, coro: Coroutine[Any, Any, T], *, name: object, **options: Any) -> None:
        # Before the base class, which registers the task in a set.
        self._number = number
        super().__init__(coro, name=f"Task-{number}" if name is None else str(name), **options)

    def __hash__(self) -> int:
        return self._number


# One table, so that a reader sees what a simulation lacks, and a test can hold it against all that asyncio offers.
_REFUSED = {
    "network": (
        "add_reader add_writer remove_reader remove_writer "
        "create_connection create_server create_datagram_endpoint create_unix_connection create_unix_server "
        "connect_accepted_socket start_tls sendfile getaddrinfo getnameinfo "
        "sock_accept sock_connect sock_recv sock_recv_into sock_recvfrom sock_recvfrom_into "
        "sock_sendall sock_sendto sock_sendfile"
    ),
    "subprocesses": "subprocess_exec subprocess_shell",
    "pipes": "connect_read_pipe connect_write_pipe",
    "signals": "add_signal_handler remove_signal_handler",
}


def _refusal(world: str, method: str) -> Callable[..., NoReturn]:
    def refuse(self: SimulatedLoop, *_args: object, **_options: object) -> NoReturn:
        raise SimulationError(
            f"the simulation has no {world}: loop.{method}() was called at {self.time()} s and would reach the real "
            "world; give the code under test a simulated stand-in, or test it outside the simulation"
        )

    refuse.__name__ = method
    refuse.__doc__ = f"Raise `SimulationError`: the simulation has no {world}."
    return refuse


for _world, _methods in _REFUSED.items():
    for _method in _methods.split():
        setattr(SimulatedLoop, _method, _refusal(_world, _method))


def simulate(
    main: Callable[[], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    shuffle: bool = True,
    jitter_s: float = 0.0,
    time_max_s: float = TIME_MAX_S,
    steps_max: int = STEPS_MAX,
) -> T:
    """Run `main()` to completion on a fresh `SimulatedLoop` and return its result, when nothing is left behind.

    The options are those of `SimulatedLoop`. Asynchronous generators that `main` left open are closed. After a failure
    all tasks are cancelled and unwound, the loop is closed, and the exception carries a note that names the seed.

    Raises:
        DeadlockError: nothing could happen any more before main was done.
        SimulationLimitError: the run passed `steps_max` or `time_max_s`.
        LeakedTaskError: main returned while other tasks were unfinished, be it only in their clean-up.
        SimulationError: called inside a running event loop, or the program reached for the real world.
        ValueError: an option is out of range.
        BaseException: what main raised.
    """
    if asyncio._get_running_loop() is not None:
        raise SimulationError("simulate() was called inside a running event loop; call it from a plain function")
    loop = SimulatedLoop(seed=seed, shuffle=shuffle, jitter_s=jitter_s, time_max_s=time_max_s, steps_max=steps_max)
    try:
        return _run(loop, main)
    except BaseException as error:
        error.add_note(f"simulation seed {seed}: repeat with simulate(..., seed={seed})")
        _unwind(loop)
        raise
    finally:
        loop.close()


def _run(loop: SimulatedLoop, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    result = loop.run_until_complete(main())
    _check_leaks(loop)
    loop.run_until_complete(_close_generators(loop))
    # Once more, for the clean-up of a generator may start tasks too.
    _check_leaks(loop)
    return result


def _check_leaks(loop: SimulatedLoop) -> None:
    leaked = [task for task in loop.unfinished() if not _closes_generator(task)]
    if leaked:
        raise LeakedTaskError(
            f"main returned and left {len(leaked)} unfinished task(s); await each one, or let a TaskGroup own it:",
            map(_suspended, leaked),
        )


async def _close_generators(loop: SimulatedLoop) -> None:
    await asyncio.gather(*filter(_closes_generator, loop.unfinished()))
    await loop.shutdown_asyncgens()


def _closes_generator(task: asyncio.Task[Any]) -> bool:
    """Tell the tasks that asyncio itself starts for a dropped generator, which nobody could have awaited."""
    return type(task.get_coro()).__name__ == "async_generator_athrow"


def _unwind(loop: SimulatedLoop) -> None:
    """Cancel what a failed run left, so that `finally` blocks run and the failure is not followed by warnings."""
    loop.steps_max = loop.step_count + _UNWIND_STEPS_MAX
    loop.time_max_s = loop.time() + _UNWIND_TIME_MAX_S
    # A task that ignores its cancellation must not hide the first failure.
    with suppress(SimulationError):
        loop.run_until_complete(_cancel(loop.unfinished()))
        loop.run_until_complete(loop.shutdown_asyncgens())


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _suspended(task: asyncio.Task[Any]) -> SuspendedTask:
    frames = list(_awaited_frames(task.get_coro()))
    if not frames:
        return SuspendedTask(task.get_name(), repr(task.get_coro()))
    # The innermost frame is often one of asyncio's (`Queue.get`), so the line of the program that led there goes first.
    program = [frame for frame in frames if not frame.f_code.co_filename.startswith(_ASYNCIO_FOLDER)]
    ends = dict.fromkeys([*program[-1:], frames[-1]])
    return SuspendedTask(task.get_name(), " > ".join(map(_place, ends)))


def _awaited_frames(awaited: object) -> Iterator[FrameType]:
    """Yield the frames of a suspended coroutine from the outermost to the innermost."""
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            return
        yield frame
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
