"""Who may touch a key: locks, shared or exclusive, granted in the order in which they were asked for.

Invariants
1. A key is held by one owner, or by any number of owners who share it.
2. Nobody is granted a key while somebody waits for it who asked earlier and could not hold it at the same time; only an
   owner who shares a key and wants it alone goes before those who have nothing of it yet.
3. A key is freed by its holder's end and by nothing else. Whenever that lets others in, they are named at once: none is
   forgotten, none is named twice.

Keys are any hashable values, owners any but None. What belongs to one owner is kept together: its end is one call.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import Generic, TypeAlias, TypeVar

Owner = TypeVar("Owner", bound=Hashable)
Key: TypeAlias = Hashable


class _Wait(Generic[Owner]):
    """Somebody who waits for a key."""

    __slots__ = ("owner", "shared", "upgrade")

    def __init__(self, owner: Owner, *, shared: bool, upgrade: bool) -> None:
        self.owner = owner
        self.shared = shared
        self.upgrade = upgrade


class _Sharing(Generic[Owner]):
    """Those who share a key. Most keys are held alone: the table then has the owner itself in this place."""

    __slots__ = ("owners",)

    def __init__(self, owner: Owner) -> None:
        self.owners: dict[Owner, None] = {owner: None}


class Locks(Generic[Owner]):
    """The locks of one key space on one host.

    held: who holds a key, by key; a key that nobody holds is not there, so that `key in locks.held` is all that must be
    asked where nothing waits.
    """

    __slots__ = ("_keys", "_queues", "_wanted", "held")

    def __init__(self) -> None:
        self.held: dict[Key, Owner | _Sharing[Owner]] = {}
        self._queues: dict[Key, list[_Wait[Owner]]] = {}
        self._keys: dict[Owner, dict[Key, None]] = {}
        self._wanted: dict[Owner, dict[Key, None]] = {}

    def ask(self, owner: Owner, key: Key, *, shared: bool = False) -> bool:
        """Return whether the owner holds the key now; if not it waits, and a later call names it when it does.

        Asking for what is held already changes nothing. Who asks twice for what it waits for waits once.
        """
        holder = self.held.get(key)
        if holder is None and key not in self._queues:
            self.held[key] = _Sharing(owner) if shared else owner
            keys = self._keys.get(owner)
            if keys is None:
                self._keys[owner] = {key: None}
            else:
                keys[key] = None
            return True
        if isinstance(holder, _Sharing):
            owners = holder.owners
            if owner in owners:
                if shared:
                    return True
                if len(owners) == 1:
                    self.held[key] = owner
                    return True
                return self._wait(owner, key, shared=False, upgrade=True)
            if shared and key not in self._queues:
                owners[owner] = None
                self._keys.setdefault(owner, {})[key] = None
                return True
        elif holder == owner:
            return True
        return self._wait(owner, key, shared=shared, upgrade=False)

    def take_free(self, owner: Owner, keys: Collection[Key]) -> bool:
        """Take keys for an owner alone when all of them are free and nobody waits for any; else take none.

        What `ask` does, for each of them and in whatever order, since no order matters where nobody is in the way.
        """
        held = self.held
        if self._queues:
            return False
        for key in keys:
            if key in held:
                return False
        mine = self._keys.get(owner)
        if mine is None:
            mine = self._keys[owner] = {}
        for key in keys:
            held[key] = owner
            mine[key] = None
        return True

    def _wait(self, owner: Owner, key: Key, *, shared: bool, upgrade: bool) -> bool:
        queue = self._queues.setdefault(key, [])
        for index, wait in enumerate(queue):
            if wait.owner == owner:
                if wait.shared and not shared:
                    queue[index].shared = False
                return False
        wait = _Wait(owner, shared=shared, upgrade=upgrade)
        if upgrade:
            queue.insert(sum(1 for each in queue if each.upgrade), wait)
        else:
            queue.append(wait)
        self._wanted.setdefault(owner, {})[key] = None
        return False

    def withdraw(self, owner: Owner, key: Key) -> list[tuple[Owner, Key]]:
        """Stop waiting for a key; return who holds which key now that could not before."""
        wanted = self._wanted.get(owner)
        if wanted is None or key not in wanted:
            return []
        del wanted[key]
        if not wanted:
            del self._wanted[owner]
        queue = self._queues[key]
        queue[:] = [wait for wait in queue if wait.owner != owner]
        return self._let_in(key)

    def release(self, owner: Owner) -> list[tuple[Owner, Key]]:
        """End an owner: it holds and waits for nothing any more. Return who holds which key now."""
        let_in: list[tuple[Owner, Key]] = []
        if owner in self._wanted:
            for key in list(self._wanted[owner]):
                let_in += self.withdraw(owner, key)
        keys = self._keys.pop(owner, None)
        if keys is None:
            return let_in
        held, queues = self.held, self._queues
        for key in keys:
            holder = held[key]
            if isinstance(holder, _Sharing):
                owners = holder.owners
                del owners[owner]
                if not owners:
                    del held[key]
            else:
                del held[key]
            if queues and key in queues:
                let_in += self._let_in(key)
        return let_in

    def pass_on(self, owner: Owner, to: Owner) -> None:
        """Let somebody else, who has nothing yet, hold what an owner holds."""
        keys = self._keys.pop(owner, None)
        if keys is None:
            return
        self._keys[to] = keys
        for key in keys:
            holder = self.held[key]
            if isinstance(holder, _Sharing):
                holder.owners = {to if each == owner else each: None for each in holder.owners}
            else:
                self.held[key] = to

    def _let_in(self, key: Key) -> list[tuple[Owner, Key]]:
        """Grant a key to those at the head of its queue who can hold it now."""
        queue = self._queues[key]
        let_in: list[tuple[Owner, Key]] = []
        while queue and self._can_hold(queue[0], key):
            wait = queue.pop(0)
            holder = self.held.get(key)
            if wait.shared and isinstance(holder, _Sharing):
                holder.owners[wait.owner] = None
            else:
                self.held[key] = _Sharing(wait.owner) if wait.shared else wait.owner
            self._keys.setdefault(wait.owner, {})[key] = None
            wanted = self._wanted[wait.owner]
            del wanted[key]
            if not wanted:
                del self._wanted[wait.owner]
            let_in.append((wait.owner, key))
        if not queue:
            del self._queues[key]
        return let_in

    def _can_hold(self, wait: _Wait[Owner], key: Key) -> bool:
        holder = self.held.get(key)
        if holder is None:
            return True
        if isinstance(holder, _Sharing):
            owners = holder.owners
            return wait.shared or (len(owners) == 1 and wait.owner in owners)
        return False

    # -- who holds what, who waits for whom

    def blockers(self, owner: Owner, key: Key) -> list[Owner]:
        """Return whom an owner waits for at a key: all of them must end, or give up waiting, before it is granted."""
        queue = self._queues.get(key, [])
        mine = next((index for index, wait in enumerate(queue) if wait.owner == owner), None)
        if mine is None:
            return []
        shared = queue[mine].shared
        before = {wait.owner: None for wait in queue[:mine] if not (shared and wait.shared)}
        holder = self.held.get(key)
        if isinstance(holder, _Sharing):
            if not shared:
                before.update({each: None for each in holder.owners if each != owner})
        elif holder is not None:
            before[holder] = None
        return list(before)

    def in_the_way(self, owner: Owner, key: Key) -> list[Owner]:
        """Return those blockers without whom all the others would go on: who holds the key, where that is the matter.

        Whoever waits before for the same reason waits for the same holders, and need not be followed.
        """
        queue = self._queues.get(key, [])
        mine = next((wait for wait in queue if wait.owner == owner), None)
        if mine is None:
            return []
        holder = self.held.get(key)
        if isinstance(holder, _Sharing):
            if not mine.shared:
                return [each for each in holder.owners if each != owner]
        elif holder is not None:
            return [holder]
        return self.blockers(owner, key)

    def holders(self, key: Key) -> list[Owner]:
        """Return who holds a key."""
        holder = self.held.get(key)
        if holder is None:
            return []
        return list(holder.owners) if isinstance(holder, _Sharing) else [holder]

    def waiting(self, key: Key) -> list[Owner]:
        """Return who waits for a key, the next one first."""
        return [wait.owner for wait in self._queues.get(key, ())]

    def keys_of(self, owner: Owner) -> Iterable[Key]:
        """Return what an owner holds."""
        return self._keys.get(owner, {}).keys()

    def is_exclusive(self, owner: Owner, key: Key) -> bool:
        """Return whether an owner holds a key alone."""
        holder = self.held.get(key)
        return holder is not None and not isinstance(holder, _Sharing) and holder == owner

    def wanted(self) -> Iterable[tuple[Owner, Key]]:
        """Yield who waits for which key."""
        for owner, keys in self._wanted.items():
            for key in keys:
                yield owner, key

    @property
    def idle(self) -> bool:
        """Return whether nobody holds or waits for anything."""
        return not (self.held or self._queues or self._keys or self._wanted)
