"""What a host keeps of the apps that are deployed to it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actorflow import DeployError
from actorflow.deploy.registry import DeployLimits, FolderFiles, MemoryFiles, Registry

CODE = b"\0asm\1\0\0\0"
DIGEST = hashlib.sha256(CODE).hexdigest()


@pytest.fixture(params=["memory", "folder"])
def registry(request: Any, tmp_path: Path) -> Callable[..., Registry]:
    files = MemoryFiles() if request.param == "memory" else FolderFiles(tmp_path / "apps")
    return lambda **limits: Registry(files, DeployLimits(**limits))


def add(registry: Registry, name: str = "shop", spec: str = "app: shop", **modules: str) -> int:
    version = registry.add(name, spec=spec, form="yaml", modules=modules, at_s=1.0)
    registry.run(name, version.number)
    registry.trim(name, version.number)
    return version.number


def test_versions_are_numbered_and_the_newest_are_kept(registry: Callable[..., Registry]) -> None:
    kept = registry(versions=3)
    numbers = [add(kept, spec=f"app: shop # {n}") for n in range(6)]

    assert numbers == [1, 2, 3, 4, 5, 6]
    assert [version.number for version in kept.versions("shop")] == [4, 5, 6]
    assert kept.version("shop", 5).spec == "app: shop # 4"
    assert kept.current("shop") == 6


def test_the_version_that_runs_is_never_forgotten(registry: Callable[..., Registry]) -> None:
    kept = registry(versions=2)
    for n in range(4):
        add(kept, spec=f"{n}")
    kept.run("shop", 3)
    version = kept.add("shop", spec="4", form="yaml", modules={}, at_s=1.0)

    assert version.number == 5
    assert kept.current("shop") == 3
    assert 3 in [each.number for each in kept.versions("shop")]


def test_what_is_taken_away_keeps_its_versions_and_what_is_forgotten_does_not(
    registry: Callable[..., Registry],
) -> None:
    kept = registry()
    add(kept)
    kept.stop("shop")
    assert kept.current("shop") is None
    assert kept.apps() == ["shop"]

    kept.forget("shop")
    assert kept.apps() == []
    assert kept.versions("shop") == []


def test_a_module_is_known_by_what_it_is(registry: Callable[..., Registry]) -> None:
    kept = registry()
    assert kept.keep_module(DIGEST, CODE)
    assert not kept.keep_module(DIGEST, CODE)
    assert kept.module(DIGEST) == CODE
    with pytest.raises(DeployError, match="have SHA-256"):
        kept.keep_module(DIGEST, CODE + b"x")
    with pytest.raises(DeployError, match="is not here"):
        kept.module("0" * 64)


@pytest.mark.parametrize("digest", ["", "x" * 64, DIGEST.upper(), "../../etc/passwd", DIGEST + "/x"])
def test_what_is_no_digest_is_refused(registry: Callable[..., Registry], digest: str) -> None:
    with pytest.raises(DeployError, match="no SHA-256"):
        registry().keep_module(digest, CODE)


@pytest.mark.parametrize("name", ["", "..", "a/b", "9lives", "x" * 65, "a b", "ä"])
def test_what_is_no_name_is_refused(registry: Callable[..., Registry], name: str) -> None:
    with pytest.raises(DeployError, match="no name of an app"):
        registry().add(name, spec="", form="yaml", modules={}, at_s=1.0)


def test_there_is_a_limit_on_everything(registry: Callable[..., Registry]) -> None:
    kept = registry(apps=1, modules=1, module_bytes=20, modules_bytes=20, spec_bytes=10)
    kept.keep_module(DIGEST, CODE)
    add(kept, m=DIGEST)
    other = CODE + b"1"
    for wrong, what in (
        (lambda: kept.keep_module(hashlib.sha256(other).hexdigest(), other), "in use here"),
        (lambda: kept.keep_module(hashlib.sha256(b"x" * 21).hexdigest(), b"x" * 21), "may have 20"),
        (lambda: add(kept, "other"), "its limit"),
        (lambda: add(kept, spec="x" * 11), "more than 10 bytes"),
    ):
        with pytest.raises(DeployError, match=what):
            wrong()


def test_modules_that_nobody_uses_make_room(registry: Callable[..., Registry]) -> None:
    kept = registry(modules=1)
    kept.keep_module(DIGEST, CODE)
    other = CODE + b"1"
    digest = hashlib.sha256(other).hexdigest()

    assert kept.keep_module(digest, other)
    assert not kept.has_module(DIGEST)


def test_a_folder_is_found_again(tmp_path: Path) -> None:
    first = Registry(FolderFiles(tmp_path / "apps"))
    first.keep_module(DIGEST, CODE)
    add(first, m=DIGEST)
    with pytest.raises(DeployError, match="another host has"):
        FolderFiles(tmp_path / "apps")
    first.close()
    second = Registry(FolderFiles(tmp_path / "apps"))

    assert second.apps() == ["shop"]
    assert second.current("shop") == 1
    assert second.module(second.version("shop", 1).modules["m"]) == CODE
    assert (tmp_path / "apps").stat().st_mode & 0o777 == 0o700


def test_a_damaged_folder_says_what_is_damaged(tmp_path: Path) -> None:
    kept = Registry(FolderFiles(tmp_path / "apps"))
    kept.keep_module(DIGEST, CODE)
    add(kept)
    (tmp_path / "apps" / "modules" / DIGEST).write_bytes(b"other")
    (tmp_path / "apps" / "apps" / "shop" / "1.json").write_bytes(b"{")

    with pytest.raises(DeployError, match="damaged"):
        kept.module(DIGEST)
    assert (kept.versions("shop"), kept.damaged("shop")) == ([], [1])
    with pytest.raises(DeployError, match="version 1 of app 'shop' is damaged"):
        kept.version("shop", 1)
    assert add(kept) == 2
