"""A file system of a few megabytes, for tests that fill it up or make it read-only.

It is mounted by a child process, in a namespace of its own: nobody else sees it, and it ends with the child.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlassets_tests.resources.crowd import in_child

PAGE = 4096
_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_READ_ONLY, _REMOUNT, _RECURSIVE, _PRIVATE = 1, 32, 16384, 1 << 18
_LIBC = ctypes.CDLL(None, use_errno=True)


def on_small_disk(megabytes: int, work: Callable[..., Any], folder: Path, *given: Any) -> Any:
    """Call a function of a module with a folder that holds so much, and more; return what it returns."""
    folder.mkdir()
    return in_child(_mounted, megabytes, work, folder, given)


def _mounted(megabytes: int, work: Callable[..., Any], folder: Path, given: tuple[Any, ...]) -> Any:
    user, group = os.geteuid(), os.getegid()
    try:
        _check(_LIBC.unshare(_NEW_MOUNTS | (_NEW_USER if user else 0)))
        if user:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        _mount(None, Path("/"), None, _RECURSIVE | _PRIVATE)
        _mount("tmpfs", folder, "tmpfs", 0, f"size={megabytes}m")
    except OSError as error:
        raise AssertionError(
            f"this test mounts a file system that only it can see, and this machine does not let it ({error}). Run it "
            "as root (in a container: with --privileged), or allow users to make namespaces of their own"
        ) from None
    return work(folder, *given)


def _mount(source: str | None, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    words = [one.encode() if one else None for one in (source, str(target), kind)]
    _check(_LIBC.mount(*words, ctypes.c_ulong(flags), options.encode() or None))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Refuse all writing to a small disk in this block; nothing there may be open for writing when it begins."""
    _mount(None, disk, None, _REMOUNT | _READ_ONLY)
    try:
        yield
    finally:
        _mount(None, disk, None, _REMOUNT)


@contextmanager
def only_left(disk: Path, pages: int) -> Iterator[None]:
    """Leave so many pages of a small disk free in this block."""
    state = os.statvfs(disk)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - pages * PAGE)
    try:
        yield
    finally:
        ballast.unlink()
