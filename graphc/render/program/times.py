"""The time of a program as a drawing in SVG: a bar for each kernel, and on it the time that the roofline allows.

Contractions are dark, other kernels pale; a black mark on a bar is the least time that the machine's measured roofs
allow (`graphc.compiler.profile`). What has no mark has no known roof.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphc.errors import ArgumentError
from graphc.lang.source import user_line
from graphc.render.labels import QUIET_COLOUR, in_svg

if TYPE_CHECKING:
    from graphc.compiler.profile import Profile, Row

MOST_BARS = 60  # more do not fit on a page: the fastest are summed up in one
ROW = 18  # the height of a row in pixels, of which the bar takes BAR
BAR = 12
BARS = 440  # the width of the longest bar or mark
MARK = 16  # the height of a mark
NARROWEST = 4  # the width of a bar that is not lost behind its mark
LETTER = 5.6  # the width of a letter of 10 pixels, about
TITLE_LETTER = 6.8  # and of one of 12 pixels, in a long line
LONGEST_NAME, LONGEST_WORDS = 26, 50  # letters beside a bar
MARGIN, GAP = 16, 12  # at the edges; between the columns
TIMES = 120  # the width of the texts behind the bars
TOP, BOTTOM = 58, 16
CONTRACTION, OTHER, REST = "#7d9cbd", "#d3dde8", "#ffffff"
TICKS = 5  # of the axis, at most
STEPS = (1, 2, 5, 10)  # between two ticks, times a power of ten
UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
TWO_DIGITS = 0.095  # a share that has them without any behind the point
SORTS = ("program", "time")
COPIES = "copies"  # the kind of the row of what follows the last kernel


def svg_of_times(profile: Profile, sort: str = "program") -> str:
    """The drawing; names are escaped. sort: "program", the order in which they run, or "time", the slowest first.

    A profile by scope has a bar for each scope. Errors: `ArgumentError` for another order.
    """
    if sort not in SORTS:
        raise ArgumentError(f"profile: sort must be one of {', '.join(SORTS)}, not {sort!r}", user_line())
    return _Drawing(profile, sort).text()


def duration(seconds: float) -> str:
    """A time in the largest unit of which it is one or more.

    >>> duration(1.5e-6), duration(0.0123), duration(4e-8), duration(12)
    ('1.5 us', '12.30 ms', '0.04 us', '12.00 s')
    """
    size, unit = _unit(seconds)
    digits = 1 if unit == "us" and seconds >= size else 2
    return f"{seconds / size:.{digits}f} {unit}"


def time_words(seconds: float, share: float) -> str:
    """A time and its share of all: 12.3 us, 41%."""
    return f"{duration(seconds)}, {share:.{0 if share >= TWO_DIGITS else 1}%}"


class _Drawing:
    def __init__(self, profile: Profile, sort: str) -> None:
        self.profile = profile
        rows = profile.rows
        slowest = sorted(range(len(rows)), key=lambda number: -rows[number].seconds)
        shown = slowest if len(slowest) <= MOST_BARS else slowest[: MOST_BARS - 1]
        self.rows = [rows[number] for number in (shown if sort == "time" else sorted(shown))]
        self.rest = [rows[number] for number in slowest[len(shown) :]]
        times = [time for row in self.rows for time in (row.seconds, self._allowed(row) or 0.0)]
        self.longest = max([*times, sum(row.seconds for row in self.rest)], default=0.0) or 1.0
        self.names = [_cut(row.name or "(no scope)", LONGEST_NAME) for row in self.rows]
        self.words = [_cut(self._words(row), LONGEST_WORDS) for row in self.rows]
        self.words_at = MARGIN + _width(self.names) + GAP
        self.bars_at = self.words_at + _width(self.words) + GAP

    def text(self) -> str:
        title, legend = self._title(), self._legend()
        width = max(self.bars_at + BARS + TIMES, 2 * MARGIN + TITLE_LETTER * len(title))
        height = TOP + ROW * (len(self.rows) + bool(self.rest)) + BOTTOM
        body = self._axis()
        for number, row in enumerate(self.rows):
            body += self._row(number, row)
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
                f'viewBox="0 0 {width:.0f} {height}" font-family="sans-serif" font-size="10" fill="#111111">',
                f'<rect width="{width:.0f}" height="{height}" fill="#ffffff"/>',
                f'<text x="{MARGIN}" y="18" font-size="12">{title}</text>',
                f'<text x="{MARGIN}" y="33" fill="{QUIET_COLOUR}">{legend}</text>',
                *body,
                *self._last(),
                "</svg>\n",
            ]
        )

    def _title(self) -> str:
        profile, machine = self.profile, self.profile.machine
        threads = "" if machine is None else f", {machine.threads} thread{'s' if machine.threads > 1 else ''}"
        title = f"{in_svg(profile.name)} on {in_svg(profile.backend)}{threads}: {duration(profile.seconds)} a run"
        outside = [row.seconds for row in profile.rows if row.kind == COPIES]
        if outside:
            title += f", of which {duration(sum(outside))} outside kernels"
        return f"{title} (median of {profile.runs})"

    def _legend(self) -> str:
        """What the shades and marks mean that are there."""
        if self.profile.per != "kernel":
            return "the kernels of each part of the model, added up"
        texts = ["dark: contractions, pale: other kernels"]
        if any(self._allowed(row) is not None for row in self.rows):
            texts.append("black mark: the time that the roofline allows")
        return "; ".join(texts)

    def _allowed(self, row: Row) -> float | None:
        """The least seconds that the roofs allow; of several kernels added up nobody knows all."""
        if row.roofline is None or self.profile.per != "kernel":
            return None
        return row.roofline * row.seconds

    def _words(self, row: Row) -> str:
        """What a row computes."""
        if self.profile.per != "kernel" or not row.ops:
            return row.kind
        return f"{', '.join(row.scopes)}: {', '.join(row.ops)}" if row.scopes else ", ".join(row.ops)

    def _x(self, seconds: float) -> float:
        return self.bars_at + BARS * seconds / self.longest

    def _axis(self) -> list[str]:
        """Lines at round times, with the time above them."""
        bottom = TOP + ROW * (len(self.rows) + bool(self.rest))
        power = 10.0 ** math.floor(math.log10(self.longest / TICKS))
        step = next(power * factor for factor in STEPS if power * factor * TICKS >= self.longest)
        size, unit = _unit(step * int(self.longest / step))
        lines = []
        for tick in range(int(self.longest / step) + 1):
            x = self._x(tick * step)
            lines.append(f'<path d="M{x:.2f} {TOP - 4}V{bottom}" stroke="#cccccc" fill="none"/>')
            label = f"{tick * step / size:.4g} {unit}" if tick else "0"
            lines.append(f'<text x="{x:.2f}" y="{TOP - 7}" text-anchor="middle">{label}</text>')
        return lines

    def _row(self, number: int, row: Row) -> list[str]:
        top = TOP + ROW * number
        base = top + ROW / 2 + 3.5
        shade = CONTRACTION if row.kind == "contraction" else OTHER
        allowed = self._allowed(row)
        lines = [
            f'<text x="{MARGIN}" y="{base}">{in_svg(self.names[number])}</text>',
            f'<text x="{self.words_at:.2f}" y="{base}" fill="{QUIET_COLOUR}">{in_svg(self.words[number])}</text>',
            self._bar(top, row.seconds, shade, self._tip(row)),
        ]
        end = row.seconds
        if allowed is not None and self._x(row.seconds) - self.bars_at >= NARROWEST:
            x = self._x(allowed)
            path = f"M{x:.2f} {top + (ROW - MARK) / 2}v{MARK}"
            lines.append(f'<path class="allowed" d="{path}" stroke="#111111" stroke-width="2" fill="none"/>')
            end = max(end, allowed)
        lines.append(f'<text x="{self._x(end) + 6:.2f}" y="{base}">{time_words(row.seconds, row.share)}</text>')
        return lines

    def _last(self) -> list[str]:
        """The bar of all that have none of their own."""
        if not self.rest:
            return []
        top = TOP + ROW * len(self.rows)
        seconds, share = sum(row.seconds for row in self.rest), sum(row.share for row in self.rest)
        words = f"and {len(self.rest)} more: {duration(seconds)}"
        return [
            f'<text x="{MARGIN}" y="{top + ROW / 2 + 3.5}" font-style="italic">{words}</text>',
            self._bar(top, seconds, REST, words),
            f'<text x="{self._x(seconds) + 6:.2f}" y="{top + ROW / 2 + 3.5}">{time_words(seconds, share)}</text>',
        ]

    def _bar(self, top: float, seconds: float, shade: str, tip: str) -> str:
        place = f'x="{self.bars_at:.2f}" y="{top + (ROW - BAR) / 2}" width="{self._x(seconds) - self.bars_at:.2f}"'
        look = f'height="{BAR}" fill="{shade}" stroke="#333333" stroke-width="0.7"'
        return f'<rect class="bar" {place} {look}><title>{tip}</title></rect>'

    def _tip(self, row: Row) -> str:
        """What a reader sees on hovering."""
        texts = [row.name or "(no scope)", self._words(row), time_words(row.seconds, row.share)]
        if row.gflops is not None and row.gigabytes is not None:
            texts.append(f"{row.gflops:.1f} GFLOP/s, {row.gigabytes:.1f} GB/s")
        allowed = self._allowed(row)
        if allowed is not None:
            texts.append(f"the {row.bound} roof allows {duration(allowed)}: {row.roofline:.0%}")
        return "&#10;".join(in_svg(text) for text in [*texts, *([row.where] if row.where else [])])


def _unit(seconds: float) -> tuple[float, str]:
    """The unit in which a time is written, and its seconds."""
    return next(((size, unit) for unit, size in UNITS if seconds >= size), (1e-6, "us"))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _width(texts: Sequence[str]) -> float:
    return LETTER * max(map(len, texts), default=0)
