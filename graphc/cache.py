"""A directory of byte strings under keys, for what is costly to make: a backend's compiled code.

An entry is one file, `KEY.graphc`: a header (magic, version, lengths, key, checksum), a label for people, the content.
What is read back is what was written, or nothing. A file counts only if it is a regular file of this user's, its
lengths add up, it holds the key that its name says, and the SHA-256 of all of it is right; any other is removed, and
its maker makes the content again. So no write needs to reach the disk at once (there is no fsync): what a power failure
leaves of a file fails its checksum.

An entry is written under a temporary name and then renamed, which is atomic: a process that is killed leaves either the
whole entry or a temporary file, which others remove an hour later. Processes need no lock. Two that write one key write
the same content; one that removes what another is about to read costs that one a miss.

No failure is an error for the caller: where a directory cannot be made or written, a disk is full or a file is in the
way, nothing is kept, and only GRAPHC_DEBUG makes that known. Nor is a directory or a file of another user ever used,
because compiled code is run: they could put any code there.

>>> import tempfile
>>> cache = Cache(tempfile.mkdtemp(), bound=1 << 20)
>>> key = hashlib.sha256(b"all that the content follows from").digest()
>>> cache.fetch(key)
>>> cache.store(key, b"the content", "a name")
>>> cache.fetch(key)
b'the content'
>>> [(entry.label, entry.size) for entry in cache.entries()], cache.clear()
([('a name', 105)], 1)
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from graphc.config import config

KEY_BYTES: Final = 32  # a SHA-256
STALE_AFTER: Final = 3600.0
"""Seconds: a temporary file that is older was left by a process that died; an entry's time of use is noted as often."""

ROOM: Final = 8
"""A sweep leaves this part of the bound free, for processes that write at the same time."""

SWEEPS: Final = 64
"""A process sweeps at its first write, and each time that it has written this part of the bound: to look at a thousand
files takes some 5 ms. Eight processes that write side by side stay within ROOM."""

_MAGIC: Final = b"\x93graphc\n"  # not text, and damaged by whatever converts ends of lines
_VERSION: Final = 1
_HEADER: Final = struct.Struct(f"<8sIIQ{KEY_BYTES}s")  # magic, version, bytes of the label, of the content; key
_CHECKSUM_BYTES: Final = 32  # of SHA-256 over the header, the label and the content; between header and label
_ENTRY, _TEMPORARY = ".graphc", ".graphc-new"  # of a key, or of random bytes, in hexadecimal
_RANDOM_BYTES: Final = 8
# A link is not followed, a pipe is not waited for (POSIX); no byte is translated (Windows).
_OPEN: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class DamagedError(Exception):
    """A file that is not as this module writes entries; the text says in what."""


class Entry(NamedTuple):
    """What a directory tells of an entry. label: None when the file is damaged; used: seconds since the epoch."""

    key: bytes
    label: str | None
    size: int
    used: float


class Cache:
    """The entries in one directory, which is made when the first is stored; they take at most `bound` bytes.

    Those that were used longest ago go first. Safe with any number of processes and threads.
    """

    def __init__(self, directory: str, bound: int) -> None:
        self.directory, self.bound = os.path.abspath(directory), bound
        self._unswept: int | None = None  # bytes written since the last sweep

    def fetch(self, key: bytes) -> bytes | None:
        """The content that was stored under this key, or None."""
        path = self._path(key)
        try:
            self._refuse_foreign_directory()
            _, content, used = _read(path, key)
            if abs(time.time() - used) > STALE_AFTER:
                with suppress(OSError):  # a file system that is only read: the order of use stays as it is
                    os.utime(path)
            return content
        except FileNotFoundError:
            return None
        except DamagedError as problem:
            say(f"{path}: {problem}")
            self.remove(key)
        except OSError as problem:
            say(f"cannot be read: {problem}")
        return None

    def store(self, key: bytes, content: bytes, label: str = "") -> None:
        """Keep the content, if that is possible; what was stored under this key before is replaced."""
        entry = _packed(key, label, content)
        if len(entry) > self.bound:
            say(f"{label}: {len(entry)} bytes are more than the bound of {self.bound}")
            return
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            self._refuse_foreign_directory()
            self._write(self._path(key), entry)
            if self._unswept is None or self._unswept + len(entry) > self.bound // SWEEPS:
                self._sweep()
                self._unswept = 0
            else:
                self._unswept += len(entry)
        except OSError as problem:
            say(f"cannot be written: {problem}")

    def remove(self, key: bytes) -> None:
        """Forget what is stored under this key."""
        _unlink(self._path(key))

    def entries(self) -> list[Entry]:
        """All entries, the last used first. OSError when the directory is there but cannot be read."""
        found: list[Entry] = []
        for name, status in self._files():
            if name.endswith(_ENTRY):
                key, label = bytes.fromhex(name.removesuffix(_ENTRY)), None
                with suppress(DamagedError, OSError):
                    label = _read(os.path.join(self.directory, name), key)[0]
                found.append(Entry(key, label, status.st_size, status.st_mtime))
        return sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> int:
        """Remove all entries, and what writers left or are writing; how many files that were. OSError: as `entries`."""
        return sum(_unlink(os.path.join(self.directory, name)) for name, _ in self._files())

    def _path(self, key: bytes) -> str:
        return os.path.join(self.directory, key.hex() + _ENTRY)

    def _refuse_foreign_directory(self) -> None:
        if _is_foreign(os.stat(self.directory)):
            raise PermissionError(f"{self.directory} belongs to another user")

    def _write(self, path: str, entry: bytes) -> None:
        temporary = os.path.join(self.directory, os.urandom(_RANDOM_BYTES).hex() + _TEMPORARY)
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
        try:
            try:
                rest = memoryview(entry)
                while rest:
                    rest = rest[os.write(file, rest) :]
            finally:
                os.close(file)
            os.replace(temporary, path)
        except BaseException:  # an interrupt, too
            _unlink(temporary)
            raise

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Names and status of the files that have our names."""
        with suppress(FileNotFoundError), os.scandir(self.directory) as listing:
            for item in listing:
                if _is_hex(item.name, KEY_BYTES, _ENTRY) or _is_hex(item.name, _RANDOM_BYTES, _TEMPORARY):
                    with suppress(OSError):  # another process removed it
                        yield item.name, item.stat(follow_symlinks=False)

    def _sweep(self) -> None:
        """Remove what dead writers left; then the entries used longest ago, until there is room."""
        now, total, candidates = time.time(), 0, []
        for name, status in self._files():
            path = os.path.join(self.directory, name)
            if name.endswith(_ENTRY):
                candidates.append((status.st_mtime, status.st_size, path))
            elif abs(now - status.st_mtime) > STALE_AFTER:
                _unlink(path)
                continue
            total += status.st_size
        for _, size, path in sorted(candidates):
            if total <= self.bound - self.bound // ROOM:
                break
            _unlink(path)
            total -= size


def cache_directory() -> str | None:
    """Where this user's cache is, by GRAPHC_CACHE_DIR or the platform's custom; None when there is no home.

    Linux and other systems: the XDG Base Directory Specification, by which a relative $XDG_CACHE_HOME is ignored.
    """
    if config.cache_directory is not None:
        return config.cache_directory
    home = os.path.expanduser("~")
    if sys.platform == "darwin":
        parts = [home, "Library", "Caches", "graphc"]
    elif sys.platform == "win32":
        parts = [os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local"), "graphc", "Cache"]
    else:
        given = os.environ.get("XDG_CACHE_HOME", "")
        parts = [given if os.path.isabs(given) else os.path.join(home, ".cache"), "graphc"]
    return os.path.join(*parts) if os.path.isabs(parts[0]) else None


@functools.cache
def user_cache() -> Cache | None:
    """The cache of this process; None when it is turned off or has no place."""
    directory = cache_directory()
    if not config.cache or directory is None:
        return None
    try:
        return Cache(directory, config.cache_bytes)
    except OSError as problem:  # a relative one, and the working directory is gone
        say(f"has no place: {problem}")
        return None


def _is_hex(name: str, count: int, suffix: str) -> bool:
    stem = name.removesuffix(suffix)
    return stem != name and len(stem) == 2 * count and set(stem) <= set("0123456789abcdef")


def _packed(key: bytes, label: str, content: bytes) -> bytes:
    name = label.encode(errors="replace")
    header = _HEADER.pack(_MAGIC, _VERSION, len(name), len(content), key)
    checksum = hashlib.sha256(b"".join((header, name, content))).digest()
    return b"".join((header, checksum, name, content))


def _read(path: str, key: bytes) -> tuple[str, bytes, float]:
    """(label, content, time of use) of an entry; `DamagedError` says why it is not to be trusted.

    The file is read, not mapped: a mapped one that another program cuts short ends the process.
    """
    file = os.open(path, os.O_RDONLY | _OPEN)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise DamagedError("is no regular file")
        if _is_foreign(status):
            raise DamagedError("belongs to another user")
        start = _HEADER.size + _CHECKSUM_BYTES
        head = _read_bytes(file, start)
        if len(head) < start:
            raise DamagedError("is cut short")
        magic, version, name_bytes, content_bytes, its_key = _HEADER.unpack_from(head)
        if (magic, version, its_key) != (_MAGIC, _VERSION, key):
            raise DamagedError("is of another kind, version or key")
        if status.st_size != start + name_bytes + content_bytes:
            raise DamagedError("has another length than it says")
        body = _read_bytes(file, name_bytes + content_bytes)
    finally:
        os.close(file)
    if hashlib.sha256(head[: _HEADER.size] + body).digest() != head[_HEADER.size :]:
        raise DamagedError("fails its checksum")
    return body[:name_bytes].decode(errors="replace"), body[name_bytes:], status.st_mtime


def _read_bytes(file: int, count: int) -> bytes:
    """So many bytes, or as many as there are."""
    parts: list[bytes] = []
    while count and (part := os.read(file, count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _is_foreign(status: os.stat_result) -> bool:
    return hasattr(os, "geteuid") and status.st_uid != os.geteuid()


def _unlink(path: str) -> bool:
    """Remove a file, if that is possible."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def say(message: str) -> None:
    """With GRAPHC_DEBUG, a line on stderr."""
    if config.debug:
        print(f"graphc: the cache: {message}", file=sys.stderr)
