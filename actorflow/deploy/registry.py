"""What has been deployed: versions of apps, and the modules that they use, by the hash of their content.

In a folder, where a host may find it again, or in memory. A file is written whole or not at all; which version runs is
one small file, so a crash between two of them leaves the old one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import msgspec

from actorflow.errors import DeployError
from actorflow.limits import MIB

Form: TypeAlias = Literal["yaml", "json", "toml"]
"""How a specification is written."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployLimits:
    """How much may be deployed to one host.

    apps: at once.   versions: kept of each, the newest.   modules, module_bytes, modules_bytes: how many, how large
    each, and all of them together.   spec_bytes: of one specification.

    Of one app: streams, cells and schedules, each; steps, of all streams; replicas and shards, of one step or cell.
    Of one function in WASM, at the most: threads, slice_s, batch_s, memory_bytes, table_elements (see `Sandbox`).
    """

    apps: int = 100
    versions: int = 10
    modules: int = 1_000
    module_bytes: int = 16 * MIB
    modules_bytes: int = 512 * MIB
    spec_bytes: int = MIB
    streams: int = 200
    cells: int = 200
    schedules: int = 200
    steps: int = 2_000
    replicas: int = 64
    shards: int = 4_096
    threads: int = 16
    slice_s: float = 0.05
    batch_s: float = 60.0
    memory_bytes: int = 256 * MIB
    table_elements: int = 100_000


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an app. form: "yaml", "toml" or "json".   modules: digests, by the names that the spec uses."""

    number: int
    spec: str
    form: Form
    modules: dict[str, str]
    at_s: float

    def says(self, spec: str, form: str, modules: Mapping[str, str]) -> bool:
        """Return whether this version is exactly that."""
        return (self.spec, self.form, self.modules) == (spec, form, dict(modules))


class Files(Protocol):
    """Where a registry keeps what it has: names of files in folders, to bytes."""

    def read(self, path: str) -> bytes | None:
        """Return the contents of a file; None where there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Write a file, whole or not at all. Raises: OSError."""

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it."""

    def list(self, folder: str) -> Iterable[tuple[str, int]]:
        """Iterate over the names in a folder, with their sizes."""

    def close(self) -> None:
        """Let go."""


class MemoryFiles:
    """Files that a restart forgets."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def read(self, path: str) -> bytes | None:
        return self._files.get(path)

    def write(self, path: str, data: bytes) -> None:
        self._files[path] = data

    def remove(self, path: str) -> None:
        for name in [name for name in self._files if name == path or name.startswith(f"{path}/")]:
            del self._files[name]

    def close(self) -> None:
        """Nothing is held."""

    def list(self, folder: str) -> Iterable[tuple[str, int]]:
        inside = [name.removeprefix(f"{folder}/") for name in self._files if name.startswith(f"{folder}/")]
        return [
            (name, len(self._files.get(f"{folder}/{name}", b""))) for name in sorted({n.split("/")[0] for n in inside})
        ]


class FolderFiles:
    """Files in a folder, which is made when there is none, and is nobody's but its owner's, and one host's at a time.

    Raises: DeployError when another host has it open; OSError.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._lock = (folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise DeployError(f"another host has {folder} open: give each host a folder of its own") from None

    def close(self) -> None:
        self._lock.close()

    def read(self, path: str) -> bytes | None:
        try:
            return (self._folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def write(self, path: str, data: bytes) -> None:
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def remove(self, path: str) -> None:
        target = self._folder / path
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)

    def list(self, folder: str) -> Iterable[tuple[str, int]]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(
                (each.name, each.stat().st_size) for each in (self._folder / folder).iterdir() if each.name[0] != "."
            )
        return []


_version = msgspec.json.Decoder(Version)


class Registry:
    """The versions of apps, and modules. All names and digests are checked here: they come from outside."""

    def __init__(self, files: Files, limits: DeployLimits | None = None) -> None:
        self._files = files
        self.limits = limits or DeployLimits()

    # -- modules

    def has_module(self, digest: str) -> bool:
        """Return whether a module is there."""
        return any(name == digest for name, _ in self._files.list("modules"))

    def module(self, digest: str) -> bytes:
        """Return a module. Raises: DeployError."""
        code = self._files.read(f"modules/{checked_digest(digest)}")
        if code is None:
            raise DeployError(f"module {digest} is not here: send it first")
        if hashlib.sha256(code).hexdigest() != digest:
            raise DeployError(f"module {digest} is damaged: send it again")
        return code

    def keep_module(self, digest: str, code: bytes) -> bool:
        """Keep a module; return whether it is new. Raises: DeployError."""
        limits = self.limits
        checked_digest(digest)
        if len(code) > limits.module_bytes:
            raise DeployError(f"the module has {len(code):,} bytes, and may have {limits.module_bytes:,}")
        if (found := hashlib.sha256(code).hexdigest()) != digest:
            raise DeployError(f"these bytes have SHA-256 {found}, not {digest}")
        kept = dict(self._files.list("modules"))
        if kept.get(digest) == len(code):
            return False
        if len(kept) >= limits.modules or sum(kept.values()) + len(code) > limits.modules_bytes:
            self._forget_unused(kept)
            kept = dict(self._files.list("modules"))
        if len(kept) >= limits.modules or sum(kept.values()) + len(code) > limits.modules_bytes:
            raise DeployError(
                f"{len(kept)} modules with {sum(kept.values()):,} bytes are in use here, and there is room for "
                f"{limits.modules} with {limits.modules_bytes:,}: undeploy an app"
            )
        self._write(f"modules/{digest}", code)
        return True

    def _forget_unused(self, kept: Mapping[str, int]) -> None:
        used = {
            digest for name in self.apps() for version in self.versions(name) for digest in version.modules.values()
        }
        for digest in kept.keys() - used:
            self._files.remove(f"modules/{digest}")

    # -- apps

    def apps(self) -> list[str]:
        """Return the names of all apps that were ever deployed, and not forgotten."""
        return [name for name, _ in self._files.list("apps") if NAME.fullmatch(name)]

    def versions(self, name: str) -> list[Version]:
        """Return the versions of an app that are kept and can be read, the oldest first."""
        return [version for version in map(partial(self._version, name), self._numbers(name)) if version is not None]

    def damaged(self, name: str) -> list[int]:
        """Return the numbers of versions that cannot be read."""
        return [number for number in self._numbers(name) if self._version(name, number) is None]

    def _numbers(self, name: str) -> list[int]:
        files = (file for file, _ in self._files.list(f"apps/{checked_name(name)}"))
        return sorted(int(file[:-5]) for file in files if file.endswith(".json") and file[:-5].isdecimal())

    def _version(self, name: str, number: int) -> Version | None:
        try:
            return _version.decode(self._files.read(f"apps/{name}/{number}.json") or b"")
        except msgspec.DecodeError:
            return None

    def version(self, name: str, number: int) -> Version:
        """Return a version of an app. Raises: DeployError."""
        versions = {version.number: version for version in self.versions(name)}
        if number in self.damaged(name):
            raise DeployError(f"version {number} of app {name!r} is damaged: deploy it again, or take another")
        if number not in versions:
            known = ", ".join(map(str, versions)) or "none"
            raise DeployError(f"app {name!r} has no version {number} here (versions: {known})")
        return versions[number]

    def current(self, name: str) -> int | None:
        """Return which version runs; None where the app was taken away."""
        said = self._files.read(f"apps/{checked_name(name)}/current")
        return int(said) if said and said.isdigit() else None

    def add(self, name: str, *, spec: str, form: Form, modules: Mapping[str, str], at_s: float) -> Version:
        """Keep a new version of an app; it does not run yet. Raises: DeployError."""
        if len(spec.encode()) > self.limits.spec_bytes:
            raise DeployError(f"the specification has more than {self.limits.spec_bytes:,} bytes")
        if name not in (apps := self.apps()) and len(apps) >= self.limits.apps:
            raise DeployError(f"{len(apps)} apps are kept here, its limit: undeploy one with its state")
        number = max(self._numbers(name), default=0) + 1
        version = Version(number=number, spec=spec, form=form, modules=dict(modules), at_s=at_s)
        self._write(f"apps/{name}/{number}.json", msgspec.json.encode(version))
        return version

    def run(self, name: str, number: int) -> None:
        """Note that a version runs. Raises: DeployError."""
        self._write(f"apps/{name}/current", str(number).encode())

    def trim(self, name: str, number: int) -> None:
        """Forget versions that are too old, beside one that runs. Raises: DeployError."""
        old = [version.number for version in self.versions(name) if version.number != number]
        for each in old[: max(len(old) - self.limits.versions + 1, 0)]:
            self.drop(name, each)

    def drop(self, name: str, number: int) -> None:
        """Forget a version."""
        self._remove(f"apps/{name}/{number}.json")

    def stop(self, name: str) -> None:
        """Note that an app runs no more; its versions stay."""
        self._remove(f"apps/{checked_name(name)}/current")

    def forget(self, name: str) -> None:
        """Forget an app with all its versions."""
        self._remove(f"apps/{checked_name(name)}")

    def close(self) -> None:
        """Let go of the files, for another host."""
        self._files.close()

    def _write(self, path: str, data: bytes) -> None:
        try:
            self._files.write(path, data)
        except OSError as error:
            raise DeployError(f"{path} cannot be kept: {error.strerror or error}") from None

    def _remove(self, path: str) -> None:
        try:
            self._files.remove(path)
        except OSError as error:
            raise DeployError(f"{path} cannot be removed: {error.strerror or error}") from None


def checked_name(name: str) -> str:
    """Return the name of an app. Raises: DeployError."""
    if not NAME.fullmatch(name):
        raise DeployError(f"{name[:64]!r} is no name of an app: letters, digits, '_' and '-', beginning with a letter")
    return name


def checked_digest(digest: str) -> str:
    """Return a digest. Raises: DeployError."""
    if not DIGEST.fullmatch(digest):
        raise DeployError(f"{digest[:80]!r} is no SHA-256: 64 digits from 0 to f are due")
    return digest
