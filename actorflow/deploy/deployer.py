"""Deploying: a specification and its modules become an app that runs, in place of its last version.

Everything is built and checked beside what runs. Where only modules have changed, their functions are swapped between
two batches, and replicas, state and requests stay as they are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from actorflow.deploy.building import Built, build
from actorflow.deploy.registry import Form, Registry, Version, checked_name
from actorflow.errors import ActorflowError, DeployError
from actorflow.plan.app import AppPlan, OpenPlan
from actorflow.runtime.host import Host

log = logging.getLogger("actorflow.deploy")

UNDER_WAY_S = 30.0
"""How long an undeploying waits for requests under way."""
LOOK_EVERY_S = 0.05


@dataclass(slots=True)
class Deployed:
    """An app that runs. number: its version."""

    number: int
    built: Built
    since_s: float = field(default_factory=time.time)


class Deployer:
    """What is deployed to one host. One change at a time.

    python: whether specifications may name Python functions, which can do anything that this process can.
    """

    def __init__(self, registry: Registry, *, python: bool = False) -> None:
        self.registry = registry
        self.python = python
        self.plan = OpenPlan("host")
        self._host: Host | None = None
        self._running: dict[str, Deployed] = {}
        self.wrong: dict[str, str] = {}  # why an app that ran before cannot run now
        self._changing = asyncio.Lock()

    def restore(self) -> list[str]:
        """Build what ran before a restart into the plan; return the names of what cannot be built, with why.

        An app that was taken away keeps its cells, as long as its state is there.
        """
        for name in self.registry.apps():
            try:
                number = self.registry.current(name)
                version = self.registry.version(name, number) if number else self.registry.versions(name)[-1]
                built = self._built(name, version)
                if number:
                    self.plan.take_in(built.app)
                    self._running[name] = Deployed(number, built)
                else:
                    self.plan.take_cells(built.app)
            except (ActorflowError, LookupError) as error:
                self.wrong[name] = str(error) or "no version of it can be read"
        return [f"app {name} does not run: {why}" for name, why in self.wrong.items()]

    def serve(self, host: Host) -> None:
        """Deploy to a host, which runs the plan."""
        self._host = host

    @property
    def host(self) -> Host:
        """Return the host."""
        assert self._host is not None, "serve() comes first"
        return self._host

    # -- the verbs

    async def deploy(
        self, name: str, *, spec: str, form: Form, modules: Mapping[str, str], file: str = ""
    ) -> dict[str, Any]:
        """Run a new version of an app and return what became of it. file: how errors call the specification.

        Raises: SpecError, ModuleError, TopologyError, DeployError: nothing has changed then.
        """
        checked_name(name)
        async with self._changing:
            running = self._running.get(name)
            if running is not None and self.registry.version(name, running.number).says(spec, form, modules):
                return {**self.about(name), "how": "unchanged", "names_python": "python:" in spec}
            version = self.registry.add(name, spec=spec, form=form, modules=modules, at_s=time.time())
            try:
                return await self._run(name, version, file)
            except BaseException:
                self.registry.drop(name, version.number)
                if not self.registry.versions(name) and not self.registry.damaged(name):
                    self.registry.forget(name)
                raise

    async def roll_back(self, name: str, number: int) -> dict[str, Any]:
        """Run a version of an app that is kept. Raises: as `deploy`."""
        async with self._changing:
            return await self._run(name, self.registry.version(checked_name(name), number))

    async def _run(self, name: str, version: Version, file: str = "") -> dict[str, Any]:
        built = await self.host.loop.run_in_executor(None, self._built, name, version, file)  # compiling takes its time
        running = self._running.get(name)
        self.registry.run(name, version.number)  # what cannot be written down does not run
        try:
            if running is not None and running.built.differs_in_modules_only(built):
                running.built.swap(built)
                self._running[name] = Deployed(version.number, running.built)
                how = "swapped"
            else:
                before = running.built.app if running is not None else None
                await self.host.changes.bring(built.app, instead_of=before, checked=True)
                self._running[name] = Deployed(version.number, built)
                how = "deployed" if running is None else "replaced"
        except BaseException:
            self._note(name, running)
            raise
        self.registry.trim(name, version.number)
        self.wrong.pop(name, None)
        log.info("app %s: version %s runs (%s)", name, version.number, how)
        return {**self.about(name), "how": how}

    async def undeploy(self, name: str, *, state: bool = False) -> dict[str, Any]:
        """Run an app no more, once its requests have ended. state: its cells, and its versions, go with it.

        Raises: DeployError.
        """
        checked_name(name)
        async with self._changing:
            running = self._running.get(name)
            if running is None:
                if state and name in self.registry.apps():
                    self.host.changes.take_away(AppPlan(name), state=True)  # its cells, which go by its name
                    self._forget(name)
                    return {"app": name, "state": "forgotten"}
                raise DeployError(f"app {name!r} does not run here (apps: {', '.join(self._running) or 'none'})")
            app = running.built.app
            self.registry.stop(name)
            try:
                self.host.changes.take_away(app, state=False)
            except BaseException:
                self._note(name, running)
                raise
            del self._running[name]
            until_s = self.host.now_s() + UNDER_WAY_S
            while self.host.changes.is_at_work(app) and self.host.now_s() < until_s:  # noqa: ASYNC110 - many ends
                await asyncio.sleep(LOOK_EVERY_S)
            log.info("app %s is taken away%s", name, ", with its state" if state else "")
            if state:
                self.host.changes.take_away(app, state=True)
                self._forget(name)
            return {"app": name, "state": "forgotten" if state else "taken away"}

    def _note(self, name: str, running: Deployed | None) -> None:
        """Write down again what runs."""
        if running is not None:
            self.registry.run(name, running.number)
        else:
            self.registry.stop(name)

    def _forget(self, name: str) -> None:
        self.registry.forget(name)
        self.wrong.pop(name, None)

    def about(self, name: str) -> dict[str, Any]:
        """Return what is known of an app. Raises: DeployError."""
        versions = self.registry.versions(checked_name(name))
        running = self._running.get(name)
        damaged = self.registry.damaged(name)
        if not versions and not damaged:
            raise DeployError(f"there is no app {name!r} here (apps: {', '.join(self.registry.apps()) or 'none'})")
        app = running.built.app if running is not None else None
        return {
            "app": name,
            "version": running.number if running is not None else None,
            "versions": [
                {"number": each.number, "at_s": each.at_s, "modules": each.modules, "form": each.form}
                for each in versions
            ],
            "damaged": damaged,
            "error": self.wrong.get(name),
            "streams": sorted(app.streams) if app is not None else [],
            "cells": sorted(app.cells) if app is not None else [],
        }

    def list(self) -> list[dict[str, Any]]:
        """Return what is known of all apps."""
        return [self.about(name) for name in self.registry.apps()]

    def _built(self, name: str, version: Version, file: str = "") -> Built:
        file = file or f"{name}.{version.form}"
        limits = self.registry.limits
        return build(name, version, self.registry.module, python=self.python, file=file, limits=limits)
