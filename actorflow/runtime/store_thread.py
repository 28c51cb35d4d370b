"""The thread in which a store works, beside the event loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SWITCH_S = 0.0002


class StoreThread:
    """One thread: what it is given is done in that order.

    While any is at work, Python's threads take turns every 0.2 ms instead of every 5. Else an epoch of a busy host
    would begin to be written, and be noticed to be, only when the event loop has done all that was ready: everybody
    would wait for the disk.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="actorflow-store")

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in the thread."""
        return await self._loop.run_in_executor(self._pool, function, *arguments)

    def hurry(self) -> None:
        """Switch often from now on."""
        if not _hurried:
            _hurried[None] = sys.getswitchinterval()
            sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))
        _hurried[self] = SWITCH_S

    def end(self) -> None:
        """Take nothing more; the last thread that ends leaves the switching as it was."""
        self._pool.shutdown(wait=False)
        if _hurried.pop(self, None) is not None and len(_hurried) == 1:
            sys.setswitchinterval(_hurried.pop(None))


_hurried: dict[StoreThread | None, float] = {}
"""The threads in this process for which switching is quick; under None how it was before the first."""
