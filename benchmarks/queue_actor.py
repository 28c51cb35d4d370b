"""The actor that a Python programmer writes by hand: an `asyncio.Queue`, a task that reads it, a future per ask."""

import asyncio
from time import perf_counter


class QueueActor:
    """Answer asks one after the other, in a task that the caller of `run` owns."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue()

    async def ask(self, message: int) -> int:
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((message, reply))
        return await reply

    async def run(self) -> None:
        while True:
            message, reply = await self.queue.get()
            reply.set_result(self.handle(message))

    def handle(self, message: int) -> int:
        return message


async def ask(count: int, *, in_flight: int = 1) -> float:
    """Return asks per second, sent by `in_flight` clients that each wait for the reply before the next ask."""
    actor = QueueActor()
    running = asyncio.create_task(actor.run())

    async def client() -> None:
        for number in range(count // in_flight):
            await actor.ask(number)

    started = perf_counter()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    seconds = perf_counter() - started
    running.cancel()
    return count // in_flight * in_flight / seconds
