"""The simulated loop: what a simulation may rely on."""

import asyncio
import contextlib
import contextvars
import gc
import itertools
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorflow.testing.loop import (
    DeadlockError,
    LeakedTaskError,
    SimulatedLoop,
    SimulationError,
    SimulationLimitError,
    simulate,
)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def simulated_loop() -> SimulatedLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    return loop


async def wake_order(delays_s: list[float]) -> list[tuple[float, int]]:
    """Start one sleeper per delay and return (instant, index) of each as they wake."""
    woken: list[tuple[float, int]] = []

    async def sleeper(index: int, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        woken.append((now_s(), index))

    async with asyncio.TaskGroup() as group:
        for index, delay_s in enumerate(delays_s):
            group.create_task(sleeper(index, delay_s))
    return woken


# Virtual time


def test_an_hour_of_sleep_takes_no_real_time_and_moves_the_clock_by_an_hour() -> None:
    async def main() -> tuple[float, float]:
        before_s = now_s()
        await asyncio.sleep(3600)
        return before_s, now_s()

    started = time.perf_counter()
    clock = simulate(main)

    assert clock == (0.0, 3600.0)
    assert time.perf_counter() - started < 5


def test_the_clock_stands_still_while_anything_is_ready() -> None:
    async def main() -> float:
        asyncio.get_running_loop().call_later(1, lambda: None)
        for _ in range(1000):
            await asyncio.sleep(0)
        return now_s()

    assert simulate(main) == 0.0


def test_timers_closer_than_a_clock_tick_fire_each_at_its_own_instant() -> None:
    delays_s = [1.0, math.nextafter(1.0, 2.0), 1.0 + 1e-12]

    woken = simulate(lambda: wake_order(delays_s))

    assert [instant for instant, _ in woken] == sorted(delays_s)


def test_timers_fire_at_an_instant_where_a_nanosecond_is_lost_in_rounding() -> None:
    async def main() -> float:
        await asyncio.sleep(1e12)
        await asyncio.sleep(1e12)
        return now_s()

    assert simulate(main, time_max_s=1e13, steps_max=100) == 2e12


def test_wait_for_gives_up_at_exactly_its_timeout() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), timeout=0.3)
        return now_s()

    assert simulate(main) == 0.3


def test_timeout_task_group_and_queue_work_as_on_a_real_loop() -> None:
    async def main() -> tuple[list[int], float]:
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
        taken: list[int] = []

        async def produce() -> None:
            for item in range(3):
                await asyncio.sleep(1)
                await queue.put(item)

        async def consume() -> None:
            while True:
                taken.append(await queue.get())

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                group.create_task(produce())
                group.create_task(consume())
        return taken, now_s()

    assert simulate(main) == ([0, 1, 2], 10.0)


def test_a_cancelled_timer_does_not_move_the_clock() -> None:
    async def main() -> float:
        asyncio.get_running_loop().call_later(50, lambda: None).cancel()
        await asyncio.sleep(1)
        return now_s()

    assert simulate(main) == 1.0


def test_thousands_of_cancelled_timers_are_forgotten() -> None:
    async def main() -> int:
        loop = simulated_loop()
        for _ in range(10_000):
            loop.call_later(50, lambda: None).cancel()
            await asyncio.sleep(0)
        return len(loop._scheduled)

    assert simulate(main) < 1000


def test_a_timer_cannot_be_set_for_nan() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_at(math.nan, lambda: None)

    with pytest.raises(ValueError, match="nan"):
        simulate(main)


# Order and seeds


@given(st.lists(st.floats(min_value=0, max_value=1000) | st.integers(0, 3).map(float)))
def test_sleepers_wake_in_the_order_of_their_delays_and_ties_in_the_order_of_the_calls(delays_s: list[float]) -> None:
    woken = simulate(lambda: wake_order(delays_s), shuffle=False)

    # A sleep of nothing is not a timer and comes first anyway.
    expected = sorted(range(len(delays_s)), key=lambda index: delays_s[index])
    assert [index for _, index in woken] == expected
    assert all(instant == delays_s[index] for instant, index in woken)


@given(st.lists(st.integers(1, 3).map(float), max_size=30), st.integers(), st.sampled_from([0.0, 0.5]))
def test_a_seed_fixes_the_trace(delays_s: list[float], seed: int, jitter_s: float) -> None:
    first, second = (simulate(lambda: wake_order(delays_s), seed=seed, jitter_s=jitter_s) for _ in range(2))

    assert first == second
    assert sorted(index for _, index in first) == list(range(len(delays_s)))
    assert all(delays_s[index] <= instant <= delays_s[index] + jitter_s for instant, index in first)


def test_seeds_differ_in_the_order_of_timers_due_at_the_same_instant() -> None:
    orders = {tuple(index for _, index in simulate(lambda: wake_order([1.0] * 4), seed=seed)) for seed in range(300)}

    assert len(orders) == 24


def test_jitter_makes_timers_late_and_seeds_differ_in_how_late() -> None:
    async def main() -> float:
        await asyncio.sleep(1)
        return now_s()

    instants = {simulate(main, seed=seed, jitter_s=0.25) for seed in range(20)}

    assert len(instants) == 20
    assert all(1.0 <= instant <= 1.25 for instant in instants)


def test_no_seed_reorders_callbacks_that_are_ready() -> None:
    async def main() -> list[int]:
        called: list[int] = []
        for index in range(50):
            asyncio.get_running_loop().call_soon(called.append, index)
        await asyncio.sleep(0)
        return called

    assert all(simulate(main, seed=seed) == list(range(50)) for seed in range(20))


def test_the_random_source_is_the_seeds_whatever_the_timers_draw() -> None:
    async def main() -> float:
        await asyncio.sleep(1)
        return simulated_loop().random.random()

    drawn = SimulatedLoop(seed=7)
    drawn.close()
    assert simulate(main, seed=7) == simulate(main, seed=7, jitter_s=0.5) == drawn.random.random()


def test_a_task_group_cancels_its_children_in_the_same_order_in_every_run() -> None:
    kept: list[object] = []

    async def main() -> list[str]:
        order: list[str] = []

        async def child(name: str) -> None:
            # Objects of odd sizes, kept, so that addresses differ between the runs.
            kept.append(bytearray(len(kept) * 37))
            try:
                await asyncio.sleep(10)
            finally:
                order.append(name)

        async def fail() -> None:
            await asyncio.sleep(1)
            raise OSError

        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                kept.extend(group.create_task(child(str(index))) for index in range(40))
                group.create_task(fail())
        return order

    first, *others = (simulate(main) for _ in range(5))

    assert len(first) == 40
    assert all(other == first for other in others)


def test_a_set_of_futures_is_iterated_in_the_same_order_in_every_run() -> None:
    kept: list[object] = []

    async def main() -> list[int]:
        futures = {simulated_loop().create_future(): index for index in range(40)}
        kept.append(futures)
        return [futures[future] for future in set(futures)]

    first, *others = (simulate(main) for _ in range(5))

    assert all(other == first for other in others)


def test_unnamed_tasks_are_called_alike_in_every_run() -> None:
    async def main() -> str:
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    assert simulate(main) == simulate(main)


def test_a_task_keeps_the_name_and_the_context_it_was_given() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def main() -> tuple[str, str]:
        context = contextvars.copy_context()
        context.run(variable.set, "given")

        async def child() -> str:
            return variable.get()

        task = asyncio.create_task(child(), name="reader", context=context)
        return task.get_name(), await task

    assert simulate(main) == ("reader", "given")


def test_a_task_factory_of_the_program_is_used() -> None:
    made: list[object] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    async def main() -> int:
        simulated_loop().set_task_factory(factory)
        result = await asyncio.create_task(asyncio.sleep(1, 5))
        simulated_loop().set_task_factory(None)
        return result

    assert simulate(main) == 5
    assert len(made) == 1


# Deadlocks, leaks, limits


def test_a_deadlock_names_every_waiting_task_and_its_line() -> None:
    async def starve(queue: asyncio.Queue[int]) -> None:
        await queue.get()

    async def main() -> None:
        await asyncio.sleep(2)
        async with asyncio.TaskGroup() as group:
            group.create_task(starve(asyncio.Queue()), name="reader")

    with pytest.raises(DeadlockError) as caught:
        simulate(main)

    message = str(caught.value)
    line = starve.__code__.co_firstlineno + 1
    assert "deadlock at 2.0 s" in message
    assert f"reader: {__file__}:{line} " in message
    assert "starve" in message
    assert "Queue.get" in message
    assert [task.name for task in caught.value.tasks] == ["Task-1", "reader"]


def test_a_deadlock_shows_the_innermost_of_nested_awaits() -> None:
    async def inner() -> None:
        await asyncio.get_running_loop().create_future()

    async def outer() -> None:
        await inner()

    with pytest.raises(DeadlockError) as caught:
        simulate(outer)

    (task,) = caught.value.tasks
    assert task.where.endswith(f"{__file__}:{inner.__code__.co_firstlineno + 1} {inner.__qualname__}")


def test_a_sleep_for_ever_is_no_timer_but_a_deadlock() -> None:
    with pytest.raises(DeadlockError, match="sleep"):
        simulate(lambda: asyncio.sleep(math.inf))


def test_waiting_for_a_bare_future_is_a_deadlock_without_tasks() -> None:
    with contextlib.closing(SimulatedLoop()) as loop, pytest.raises(DeadlockError, match="no unfinished task"):
        loop.run_until_complete(loop.create_future())


def test_a_task_left_unfinished_is_reported_by_name() -> None:
    async def main() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(5), name="forgotten"))

    kept: list[asyncio.Task[None]] = []
    with pytest.raises(LeakedTaskError, match=r"1 unfinished task.*\n  forgotten: ") as caught:
        simulate(main)

    assert [task.name for task in caught.value.tasks] == ["forgotten"]
    assert kept[0].cancelled()


def test_a_cancelled_task_that_nobody_awaited_is_a_leak_while_it_cleans_up() -> None:
    async def careful() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(5)

    async def main() -> None:
        task = asyncio.create_task(careful(), name="dropped")
        await asyncio.sleep(1)
        task.cancel()

    with pytest.raises(LeakedTaskError, match="dropped"):
        simulate(main)


def test_a_failed_run_lets_the_other_tasks_clean_up_in_virtual_time(caplog: pytest.LogCaptureFixture) -> None:
    cleaned: list[float] = []

    async def careful() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(5)
            cleaned.append(now_s())

    async def main() -> None:
        kept.append(asyncio.create_task(careful()))
        await asyncio.sleep(1)
        raise OSError("disk on fire")

    kept: list[asyncio.Task[None]] = []
    with pytest.raises(OSError, match="disk on fire"):
        simulate(main)

    kept.clear()
    gc.collect()
    assert cleaned == [6.0]
    assert caplog.records == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_that_ignores_its_cancellation_does_not_hide_the_first_failure() -> None:
    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1)

    async def main() -> None:
        kept.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(1)
        raise OSError("disk on fire")

    kept: list[asyncio.Task[None]] = []
    with pytest.raises(OSError, match="disk on fire"):
        simulate(main)


def test_a_busy_loop_meets_the_step_limit() -> None:
    async def spin() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with pytest.raises(SimulationLimitError, match=r"steps_max=1000 at 0\.0 s") as caught:
        simulate(spin, steps_max=1000)

    assert "spin" in str(caught.value)


def test_a_heartbeat_that_never_ends_meets_the_time_limit() -> None:
    async def beat() -> None:
        for _ in itertools.count():
            await asyncio.sleep(7)

    with pytest.raises(SimulationLimitError, match=r"time_max_s=100.*105\.0 s"):
        simulate(beat, time_max_s=100)


def test_the_last_second_allowed_is_reached() -> None:
    async def main() -> float:
        await asyncio.sleep(100)
        return now_s()

    assert simulate(main, time_max_s=100) == 100.0


@pytest.mark.parametrize(
    "options",
    [{"jitter_s": -1.0}, {"jitter_s": math.nan}, {"jitter_s": math.inf}, {"time_max_s": 0.0}, {"steps_max": 0}],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SimulatedLoop(**options)


def test_a_failure_carries_the_seed_that_repeats_it() -> None:
    async def main() -> None:
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire") as caught:
        simulate(main, seed=42)

    assert caught.value.__notes__ == ["simulation seed 42: repeat with simulate(..., seed=42)"]


# Asynchronous generators


def test_a_generator_left_half_read_is_closed_and_is_no_leak() -> None:
    closed: list[str] = []

    async def numbers(name: str) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(1)
            closed.append(name)

    async def main() -> None:
        async for _ in numbers("dropped"):
            break
        kept.append(numbers("kept"))
        await anext(kept[0])

    kept: list[AsyncIterator[int]] = []
    simulate(main)

    assert closed == ["dropped", "kept"]


# Executor and threads


def test_an_executor_runs_its_function_in_place_and_returns_a_finished_future() -> None:
    async def main() -> tuple[bool, int, int]:
        future = asyncio.get_running_loop().run_in_executor(None, pow, 2, 10)
        return future.done(), await future, await asyncio.to_thread(threading.get_ident)

    assert simulate(main) == (True, 1024, threading.get_ident())


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
def test_an_error_in_an_executor_comes_through_its_future(error: type[BaseException]) -> None:
    async def main() -> bool:
        def fail() -> None:
            raise error

        future = asyncio.get_running_loop().run_in_executor(None, fail)
        with pytest.raises(error):
            await future
        return True

    assert simulate(main)


def test_an_interrupt_in_an_executor_ends_the_run() -> None:
    async def main() -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        await asyncio.to_thread(interrupt)

    with pytest.raises(KeyboardInterrupt):
        simulate(main)


def test_an_executors_function_sees_neither_the_loop_nor_the_context_of_its_caller() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def main() -> tuple[str, str, bool]:
        variable.set("caller's")

        def look() -> str:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return variable.get()

        in_executor = await asyncio.get_running_loop().run_in_executor(None, look)
        return in_executor, await asyncio.to_thread(look), simulated_loop().is_running()

    assert simulate(main) == ("unset", "caller's", True)


def test_a_wake_up_from_another_thread_is_refused() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        errors: list[BaseException] = []

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(print)
            except SimulationError as error:
                errors.append(error)

        thread = threading.Thread(target=wake, name="intruder")
        thread.start()
        thread.join()
        raise errors[0]

    with pytest.raises(SimulationError, match=r"no threads.*intruder"):
        simulate(main)


def test_the_loops_own_thread_may_call_soon_threadsafe() -> None:
    async def main() -> None:
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(woken.set)
        await woken.wait()

    simulate(main)


# The real world


@pytest.mark.parametrize(
    ("world", "reach"),
    [
        ("network", lambda: asyncio.open_connection("localhost", 80)),
        ("network", lambda: asyncio.start_server(print, "localhost", 0)),
        ("network", lambda: asyncio.get_running_loop().create_server(asyncio.Protocol, "localhost", 0)),
        ("network", lambda: asyncio.get_running_loop().getaddrinfo("localhost", 80)),
        ("subprocesses", lambda: asyncio.create_subprocess_exec(sys.executable, "-V", stdout=subprocess.DEVNULL)),
        ("pipes", lambda: asyncio.get_running_loop().connect_read_pipe(asyncio.Protocol, sys.stdin)),
    ],
)
def test_the_real_world_is_refused_by_name(world: str, reach: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    async def main() -> None:
        await reach()

    with pytest.raises(SimulationError, match=f"the simulation has no {world}: "):
        simulate(main)


def test_file_descriptors_and_signals_are_refused() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(SimulationError, match=r"no signals: loop\.add_signal_handler"):
            loop.add_signal_handler(2, print)
        with socket.socket() as unused, pytest.raises(SimulationError, match=r"no network: loop\.add_reader"):
            loop.add_reader(unused, print)

    simulate(main)


def test_everything_asyncio_offers_is_either_simulated_or_refused() -> None:
    inherited_and_harmless = {
        "call_exception_handler", "call_later", "call_soon", "close", "default_exception_handler", "get_debug",
        "get_exception_handler", "get_task_factory", "is_closed", "is_running", "run_forever", "run_until_complete",
        "set_debug", "set_default_executor", "set_exception_handler", "set_task_factory", "shutdown_asyncgens",
        "shutdown_default_executor", "stop",
    }  # fmt: skip
    offered = {name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("_")}

    assert offered - set(vars(SimulatedLoop)) == inherited_and_harmless


def test_a_simulation_does_not_start_inside_a_running_loop() -> None:
    async def main() -> None:
        simulate(lambda: asyncio.sleep(1))

    with pytest.raises(SimulationError, match="inside a running event loop"):
        simulate(main)


def test_the_loop_serves_asyncio_runner_too() -> None:
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(seed=3)) as runner:
        woken = runner.run(wake_order([2.0, 1.0]))

    assert woken == [(1.0, 1), (2.0, 0)]


def test_a_loop_in_debug_mode_keeps_the_same_order() -> None:
    async def main() -> list[tuple[float, int]]:
        simulated_loop().set_debug(True)
        return await wake_order([3.0, 1.0, 1.0, 2.0])

    assert simulate(main, seed=5) == simulate(lambda: wake_order([3.0, 1.0, 1.0, 2.0]), seed=5)
