"""graphc cache: where compiled code is kept on disk, how much there is, and how to be rid of it."""

from __future__ import annotations

import time

from graphc.cache import Cache, Entry, cache_directory
from graphc.config import config


def cache(is_listed: bool, is_cleared: bool) -> int:
    """Print the place, the number of entries and their size; first clear, or last list them, where that is asked."""
    directory = cache_directory()
    if directory is None:
        raise FileNotFoundError("there is no home directory to keep a cache in; GRAPHC_CACHE_DIR names a place")
    found = Cache(directory, config.cache_bytes)
    if is_cleared:
        found.clear()
    entries = found.entries()
    if is_cleared and entries:
        raise PermissionError(f"{found.directory}: {len(entries)} entries cannot be removed")
    print(f"directory  {found.directory}{'' if config.cache else ' (not used: GRAPHC_CACHE is 0)'}")
    print(f"entries    {len(entries)}")
    print(f"bytes      {sum(entry.size for entry in entries):,} of at most {config.cache_bytes:,}")
    if is_listed:
        for entry in entries:
            print(_row(entry))
    return 0


def _row(entry: Entry) -> str:
    """When the entry was used (to the hour), its size, its name."""
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    label = "(damaged)" if entry.label is None else entry.label
    return f"{used} {entry.size:>12,}  {''.join(letter if letter.isprintable() else '?' for letter in label)}"
