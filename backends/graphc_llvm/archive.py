"""Several object files in one: the archives of `ar`, in the System V form that linkers read.

>>> blob = pack({"one.o": b"first", "two.o": b"and second"})
>>> unpack(blob)
{'one.o': b'first', 'two.o': b'and second'}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MAGIC: Final = b"!<arch>\n"
_HEADER: Final = 60  # bytes: name 16, time 12, user 6, group 6, mode 8, size 10, end 2
_END: Final = b"`\n"
_LONGEST_NAME: Final = 15  # and a slash


def pack(members: Mapping[str, bytes]) -> bytes:
    """The archive of these files, without times and users, so that equal members give equal bytes. ValueError: a name
    is longer than 15 characters, or has a slash."""
    parts = [MAGIC]
    for name, content in members.items():
        if len(name) > _LONGEST_NAME or "/" in name or not name.isascii():
            raise ValueError(f"{name!r} cannot be the name of an archive's member")
        fields = f"{name + '/':16}{0:<12}{0:<6}{0:<6}{'644':8}{len(content):<10}"
        parts += [fields.encode(), _END, content, b"\n" * (len(content) % 2)]
    return b"".join(parts)


def unpack(archive: bytes) -> dict[str, bytes]:
    """The files of an archive that `pack` made. ValueError: it is damaged."""
    if not archive.startswith(MAGIC):
        raise ValueError("not an archive")
    found: dict[str, bytes] = {}
    place = len(MAGIC)
    while place < len(archive):
        header = archive[place : place + _HEADER]
        size = header[48:58].decode("ascii", "replace").strip()
        start = place + _HEADER
        if len(header) < _HEADER or header[58:] != _END or not size.isdecimal() or start + int(size) > len(archive):
            raise ValueError("a damaged archive")
        name = header[:16].decode("ascii", "replace").rstrip().removesuffix("/")
        found[name] = archive[start : start + int(size)]
        place = start + int(size) + int(size) % 2
    return found
