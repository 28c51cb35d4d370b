"""The streams and cells of a host, changed while it runs: added, replaced, taken away, and put to sleep.

A change is prepared beside what runs, and takes its place between two turns. Requests under way finish on the stream
that they began with; new ones find the new one. What nobody has used for a while gives up its replicas, and they are
made again when a request comes.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from actorflow.errors import DeployError
from actorflow.plan.app import AppPlan, OpenPlan
from actorflow.plan.check import check
from actorflow.plan.check_cells import purity_of
from actorflow.plan.foreign import ForeignOperator
from actorflow.plan.topology import Topology
from actorflow.runtime.asynchronous import AsyncReplica
from actorflow.runtime.cells import Entries, entries_of
from actorflow.runtime.journal import signature_of
from actorflow.runtime.recovery import claim, resume
from actorflow.runtime.supervisor import Supervisor
from actorflow.runtime.wiring import Wiring

if TYPE_CHECKING:
    from actorflow.runtime.host import Host

_OTHERWISE = (
    "{kind} {name!r} is declared otherwise than before, and its state is there: give the new one another name, or "
    "undeploy the app with its state first"
)

LOOK_EVERY_S = 0.5
"""How often those that are leaving are looked at."""


class Changes:
    """What of a host's app may change. `edition` counts the changes.

    dormant: streams that have no replicas now, by name.   idle_s: how long a stream is unused before it is put to
    sleep (None: never).
    """

    def __init__(self, host: Host, *, idle_s: float | None = None) -> None:
        self._host = host
        self.edition = 0
        self.dormant: dict[str, Topology] = {}
        self.idle_s = idle_s
        self.listeners: weakref.WeakSet[Any] = weakref.WeakSet()  # connections, which remember streams
        self._supervisors: dict[Wiring, Supervisor] = {}
        self._leaving: list[Wiring] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sleeper: asyncio.TimerHandle | None = None
        self._seen: dict[str, tuple[int, float]] = {}  # items done, and since when there were no more

    def start(self) -> None:
        """Begin to look for what is unused."""
        if self.idle_s is not None:
            self._sleeper = self._host.loop.call_later(self.idle_s / 2, self._look_for_idle)

    def stop(self) -> None:
        """Look for nothing any more."""
        for timer in (self._timer, self._sleeper):
            if timer is not None:
                timer.cancel()

    def supervise(self, wiring: Wiring) -> Supervisor:
        """Return the supervisor of a stream's replicas, made when they are."""
        replicas = [replica for node in wiring.operators() for replica in node.replicas]
        supervisor = self._supervisors[wiring] = Supervisor(self._host, replicas, wiring.topology.restart, wiring)
        return supervisor

    def supervisors(self) -> list[Supervisor]:
        """Return all supervisors, in the order in which their streams came."""
        return list(self._supervisors.values())

    @property
    def _plan(self) -> OpenPlan:
        plan = self._host.app
        if not isinstance(plan, OpenPlan):
            raise DeployError(f"host {self._host.name} runs app {plan.name}, and no others: start one that has none")
        return plan

    # -- what comes and goes

    async def bring(self, app: AppPlan, *, instead_of: AppPlan | None = None, checked: bool = False) -> None:
        """Run an app, in place of an earlier version of it where there is one.

        checked: it has been, beside the event loop, which the check of a large app would hold up.

        Raises: TopologyError, DeployError or ReplicaFailedError, and nothing has changed.
        """
        host, plan = self._host, self._plan
        before = dict(instead_of.streams) if instead_of is not None else {}
        self._check_names(app, before)
        if not checked:
            check(app)
        cells = self._new_cells(app)
        host.cells.update(cells)
        made: list[Wiring] = []
        try:
            if host.journal is not None:
                host.purity.update(purity_of(app))
            for topology in app.streams.values():
                made.append(Wiring(host, topology))  # noqa: PERF401 - those made before one that fails are to be ended
            for wiring in made:
                await self.supervise(wiring).start()
        except BaseException:
            for wiring in made:
                if (supervisor := self._supervisors.pop(wiring, None)) is not None:
                    await supervisor.stop()
            for name in cells:
                del host.cells[name]
            raise
        plan.take_in(app, instead_of=instead_of)
        for entries in cells.values():
            if host.journal is not None:
                entries.track()
        if cells and host.journal is not None:
            for name in cells:
                host.journal.unclaimed.pop(name, None)
            host.journal.note_cells()
        for name in before:
            self._leave(name)
        for wiring in made:
            host.wirings[wiring.name] = wiring
        self._schedules(app, instead_of)
        self._changed()
        if host.journal is not None:
            resume(host, host.journal)

    def take_away(self, app: AppPlan, *, state: bool) -> None:
        """Run an app no more; requests under way finish. state: its cells go, too, when nothing of it is under way.

        Raises: DeployError, when something else calls its streams, or cells are still in use; nothing has changed.
        """
        host, plan = self._host, self._plan
        mine = [name for name in app.streams if plan.has(app, name)]
        if waiting := host.delays.waiting_for(mine):
            raise DeployError(
                f"{waiting} sends to streams of app {app.name} wait for their time: cancel them, or try again later"
            )
        if state and self.is_at_work(app):
            raise DeployError(f"requests of app {app.name} are under way, and need its state: try again later")
        for name in mine:
            self._leave(name)
        plan.leave_out(app, cells=state)
        self._schedules(None, app)
        if state:
            for entries in [each for each in host.cells.values() if each.cell.app == app.name]:
                del host.cells[entries.name]
                host.activation.forget_cell(entries)
                if host.journal is not None:
                    host.journal.drop_cell(entries)
            if host.journal is not None:
                host.journal.drop_unclaimed(app.name)
                host.journal.note_cells()
        self._changed()

    def is_at_work(self, app: AppPlan) -> bool:
        """Return whether requests of an app, or of an earlier version of it, are under way."""
        wirings = (*self._leaving, *self._host.wirings.values())
        return any(wiring.name in app.streams and not is_unused(wiring) for wiring in wirings)

    def _check_names(self, app: AppPlan, before: Mapping[str, Topology]) -> None:
        """Refuse names that others have."""
        host = self._host
        taken = [name for name in app.streams if name not in before and (name in host.wirings or name in self.dormant)]
        if taken:
            raise DeployError(f"stream {', '.join(taken)} is there already, of another app: choose another name")
        mine = {*app.schedules}
        if taken := [name for name in mine if name in host.app.schedules and not self._is_of(name, before)]:
            raise DeployError(f"schedule {', '.join(taken)} is there already, of another app: choose another name")

    def _is_of(self, schedule: str, before: Mapping[str, Topology]) -> bool:
        return self._host.app.schedules[schedule].stream in before

    def _new_cells(self, app: AppPlan) -> dict[str, Entries]:
        """Return what is to hold the cells that are new; those that are there must be declared as they are."""
        host = self._host
        shards = {entries.cell.space.name: entries.cell.space for entries in host.cells.values() if entries.cell.space}
        new: dict[str, Entries] = {}
        for cell in app.cells.values():
            entries = host.cells.get(cell.name)
            if entries is not None and entries.cell.app != cell.app:
                raise DeployError(f"{entries.cell.kind} {cell.name!r} is there already, of app {entries.cell.app}")
            if entries is not None:
                if not entries.cell.same_as(cell):
                    raise DeployError(_OTHERWISE.format(kind=cell.kind, name=cell.name))
                continue
            space = cell.space
            if space is not None and shards.setdefault(space.name, space) != space:
                raise DeployError(
                    f"key space {space.name!r} has {shards[space.name].shards} shards, not {space.shards}"
                )
            new[cell.name] = entries_of(host, cell, host.spaces)
            self._claim(new[cell.name])
        return new

    def _claim(self, entries: Entries) -> None:
        """Give a new cell what the store has of it, from an app that was here before."""
        journal, cell = self._host.journal, entries.cell
        kept = journal.unclaimed.get(cell.name) if journal is not None else None
        if kept is None:
            return
        if kept.app != cell.app:
            raise DeployError(f"{kept.signature[0]} {cell.name!r} is in the store already, of app {kept.app}")
        if kept.signature != signature_of(cell):
            raise DeployError(_OTHERWISE.format(kind=cell.kind, name=cell.name))
        claim(entries, kept)

    def _schedules(self, app: AppPlan | None, instead_of: AppPlan | None) -> None:
        delays = self._host.delays
        for name in instead_of.schedules if instead_of is not None else ():
            delays.end_schedule(name)
        for name, schedule in (app.schedules if app is not None else {}).items():
            delays.begin_schedule(name, schedule)

    def _leave(self, name: str) -> None:
        """Let a stream finish what it has under way, and go."""
        self.dormant.pop(name, None)
        wiring = self._host.wirings.pop(name, None)
        if wiring is not None:
            self._leaving.append(wiring)
            self._look_at_leaving()

    def _look_at_leaving(self) -> None:
        self._timer = None
        for wiring in [each for each in self._leaving if is_unused(each)]:
            self._leaving.remove(wiring)
            self._release(wiring)
        if self._leaving and self._timer is None and not self._host.stopping:
            self._timer = self._host.loop.call_later(LOOK_EVERY_S, self._look_at_leaving)

    def _release(self, wiring: Wiring) -> None:
        """Give up the replicas of a stream that has nothing to do."""
        for replica in replicas_of(wiring):
            if isinstance(replica, AsyncReplica):
                replica.retire_idle()
        supervisor = self._supervisors.pop(wiring, None)
        if supervisor is not None:
            self._host.run_task(supervisor.stop(), f"end of {wiring.name}")

    def _changed(self) -> None:
        self.edition += 1
        for listener in self.listeners:
            listener.streams_changed()

    # -- asleep and awake

    def wake(self, name: str) -> Wiring | None:
        """Return a stream that was asleep, with new replicas; None where there is none of that name."""
        topology = self.dormant.pop(name, None)
        if topology is None:
            return None
        host = self._host
        wiring = host.wirings[name] = Wiring(host, topology)
        self.supervise(wiring)
        return wiring

    def _look_for_idle(self) -> None:
        """Put to sleep what has not been used for so long."""
        host = self._host
        assert self.idle_s is not None
        now_s = host.now_s()
        slept = False
        for name, wiring in list(host.wirings.items()):
            done = sum(replica.done for replica in replicas_of(wiring))
            before, since_s = self._seen.get(name, (-1, now_s))
            if done != before or not is_unused(wiring) or not can_sleep(wiring):
                self._seen[name] = done, now_s
            elif now_s - since_s >= self.idle_s:
                del self._seen[name]
                self.dormant[name] = wiring.topology
                del host.wirings[name]
                self._release(wiring)
                slept = True
        if slept:
            self._changed()
        if not host.stopping:
            self._sleeper = host.loop.call_later(self.idle_s / 2, self._look_for_idle)


def replicas_of(wiring: Wiring) -> Iterable[Any]:
    """Iterate over the replicas of a stream."""
    return (replica for node in wiring.operators() for replica in node.replicas)


def is_unused(wiring: Wiring) -> bool:
    """Return whether nothing of a stream is under way or waits."""
    if wiring.in_flight:
        return False
    return not any(replica.depth() or replica.busy() or replica.at_work() for replica in replicas_of(wiring))


def can_sleep(wiring: Wiring) -> bool:
    """Return whether the replicas of a stream can be made again at once: no hook of the user's is to be awaited."""
    operators = [node.operator for node in wiring.operators()]
    if not operators or any(wiring is replica.stream for replica in wiring.host.actors.values()):
        return False
    return all(
        issubclass(each, ForeignOperator) or not (hasattr(each, "start") or hasattr(each, "stop")) for each in operators
    )
