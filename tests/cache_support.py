"""What the tests of the disk cache share."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from graphc.cache import Cache

MIB = 1 << 20
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs writers in forked processes")


def key_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def content_of(number: int) -> bytes:
    """Some hundred bytes to some ten thousand."""
    return key_of(number) * (3 + 37 * (number % 13))


def path_of(cache: Cache, key: bytes) -> Path:
    return Path(cache.directory) / f"{key.hex()}.graphc"


def names(cache: Cache) -> set[str]:
    return set(os.listdir(cache.directory)) if os.path.isdir(cache.directory) else set()


def fork(work: Callable[[], object], user: int | None = None) -> int:
    """A process that does the work, as another user if that is asked, and ends with 0 if that went well."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        if user is not None:
            os.setuid(user)
        work()
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(f"in the child: {error!r}\n")
        os._exit(1)


def in_child(work: Callable[[], object], user: int | None = None) -> int:
    """Do the work in another process; its wait status."""
    return os.waitpid(fork(work, user), 0)[1]
