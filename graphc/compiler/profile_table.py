"""A profile as text: what was measured, a line for each row, the total, and what needs a remark."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from graphc.compiler.profile import Profile, Row

_HEADS: Final = ("", "kind", "scope", "where", "us", "share", "bytes", "GFLOP/s", "GB/s", "roofline")
_TEXTS: Final = 4  # columns that stand to the left; the others are numbers
_UNITS: Final = ("", "k", "M", "G", "T", "P")

CACHE_REMARK: Final = "cache: moved faster than memory can; it fits into a cache, whose roof is not measured"
FAST_REMARK: Final = (
    "above 100%: by an algorithm with fewer operations than are counted (Winograd's); or partly from a cache;\n"
    "            or others used the machine while its roofs were measured"
)


def table_of(profile: Profile, shown: Sequence[Row]) -> str:
    """The table with these rows of the profile; what is left out is one line, the total is that of all. A column in
    which no row has anything is left out."""
    lines = [_cells(row) for row in shown]
    used = [column == 0 or any(line[column] for line in lines) for column in range(len(_HEADS))]
    rest = len(profile.rows) - len(shown)
    if rest:
        hidden = sum(row.seconds for row in profile.rows) - sum(row.seconds for row in shown)
        lines.append([f"({rest} more)", "", "", "", _microseconds(hidden), *[""] * 5])
    total = _cells(profile.total)
    table = [[profile.per, *_HEADS[1:]], *lines, [total[0], "", "", "", *total[_TEXTS:]]]
    widths = [max(len(line[column]) for line in table) for column in range(len(_HEADS))]
    rows = ["  ".join(compress(_aligned(line, widths), used)).rstrip() for line in table]
    remarks = []
    if any(row.bound == "cache" for row in shown):
        remarks.append(CACHE_REMARK)
    if any(row.roofline is not None and row.roofline > 1 for row in shown):
        remarks.append(FAST_REMARK)
    return "\n".join([*_heading(profile), "", *rows, *remarks])


def _heading(profile: Profile) -> list[str]:
    machine = profile.machine
    threads = "" if machine is None else f", {machine.threads} thread{'s' if machine.threads > 1 else ''}"
    lines = [
        f"{profile.name} on {profile.backend}{threads}: {_microseconds(profile.seconds)} us a run "
        f"(median of {profile.runs}; least {_microseconds(profile.least)})"
    ]
    if machine is not None:
        peaks = [f"{rate / 1e9:.0f} GFLOP/s {dtype}" for dtype, rate in machine.operations.items()]
        lines.append(f"measured roofs: {', '.join([*peaks, f'{machine.bandwidth / 1e9:.1f} GB/s'])} ({machine.how})")
    return lines


def _cells(row: Row) -> list[str]:
    return [
        row.name or "(no scope)",
        row.kind,
        ", ".join(row.scopes),
        os.path.basename(row.where or ""),
        _microseconds(row.seconds),
        f"{row.share:.1%}",
        _scaled(row.bytes),
        "" if row.gflops is None else f"{row.gflops:.1f}",
        "" if row.gigabytes is None else f"{row.gigabytes:.1f}",
        _roofline(row),
    ]


def _roofline(row: Row) -> str:
    if row.roofline is None:
        return row.bound or ""
    return f"{row.roofline:.0%} {row.bound or ''}".rstrip()


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}"


def _scaled(count: int) -> str:
    """Three digits and a decimal prefix: 12.3k."""
    value, unit = float(count), 0
    while value >= 999.5 and unit + 1 < len(_UNITS):
        value, unit = value / 1000, unit + 1
    return f"{count}" if unit == 0 else f"{value:.3g}{_UNITS[unit]}"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        text.ljust(width) if column < _TEXTS else text.rjust(width)
        for column, (text, width) in enumerate(zip(line, widths, strict=True))
    ]
