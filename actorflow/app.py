"""`App`: where a program begins."""

from __future__ import annotations

import random

from actorflow.local import Local
from actorflow.plan.app import AppPlan
from actorflow.stores.store import Store


class App(AppPlan):
    """A named set of streams, to be run in this process (`local`) or by `actorflow run MODULE:APP`."""

    def local(
        self,
        *,
        strict: bool = False,
        inline: bool = True,
        shuffle: bool = False,
        watch: bool = True,
        chance: random.Random | None = None,
        store: str | Store | None = None,
    ) -> Local:
        """Run the app on this event loop: `async with app.local() as client`.

        strict: send every item through the codec between operators, so that a program which relies on shared objects
        fails here and not on its first second host.   inline, shuffle, chance: for simulations (see
        `actorflow.testing`).   watch: report handlers that hold the event loop.   store: where state and requests are
        kept, such as "sqlite:///shop.db" (None: in memory, a restart forgets).

        Raises: TopologyError, on entering, with every fault of the graph; StoreError; ReplicaFailedError.
        """
        return Local(self, strict=strict, inline=inline, shuffle=shuffle, watch=watch, chance=chance, store=store)
