"""The memory of a program as a drawing in SVG: kernels from left to right, the arena from bottom to top.

Each temporary is a rectangle: as wide as it is alive, as high as it is large, where it lies. The dashed line is the
sum of all that are alive; the column in which it is highest is marked. The shades only tell neighbours apart.
"""

from __future__ import annotations

from graphc.compiler.memory import Block, Memory
from graphc.render.labels import byte_count, in_svg

HEIGHT = 360  # of the arena, in pixels
WIDTH = 1000  # of all steps, where a column of theirs is then no wider or narrower than these
WIDEST, NARROWEST = 72, 3
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 44, 146  # margins, in which the text beside the axes stands
LETTER = 6.2  # the width of a letter of 10 pixels, about
LINE = 12  # the height of a line of such letters
TICKS = 6  # of the arena's axis, at most
LONGEST_NAME = 20  # letters of a kernel's name below its column
SHADES = ("#d3dde8", "#eef2f6", "#bccbda", "#e2e8ee")


def svg_of_memory(memory: Memory) -> str:
    """The drawing; names are escaped. A program without temporaries gives an empty one that says so."""
    return _Drawing(memory).text()


class _Drawing:
    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.steps = max(len(memory.steps), 1)
        self.column = min(max(WIDTH / self.steps, NARROWEST), WIDEST)
        self.width = self.column * self.steps
        self.arena = max(memory.arena_bytes, 1)

    def text(self) -> str:
        width, height = LEFT + self.width + RIGHT, TOP + HEIGHT + BOTTOM
        body = self._axes()
        for number, block in enumerate(self.memory.blocks):
            body += self._block(block, SHADES[number % len(SHADES)])
        body += [*self._live(), *self._peak()]
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
                f'viewBox="0 0 {width:.0f} {height}" font-family="sans-serif" font-size="10" fill="#111111">',
                f'<rect width="{width:.0f}" height="{height}" fill="#ffffff"/>',
                f'<text x="{LEFT}" y="16" font-size="12">{self._title()}</text>',
                *body,
                "</svg>\n",
            ]
        )

    def _title(self) -> str:
        memory = self.memory
        if memory.peak_step is None:
            return f"{in_svg(memory.name)}: no temporaries"
        return f"{in_svg(memory.name)}: arena {memory.arena_bytes:,} bytes; dashed: the bytes that are alive"

    def _x(self, step: float) -> float:
        return LEFT + step * self.column

    def _y(self, offset: float) -> float:
        return TOP + HEIGHT * (1 - offset / self.arena)

    def _axes(self) -> list[str]:
        """Offsets at the left, the kernels below: as many names as there is room for."""
        right, floor = self._x(self.steps), self._y(0)
        lines: list[str] = []
        tick = 1
        while tick * TICKS < self.memory.arena_bytes:
            tick *= 2
        for offset in range(0, self.memory.arena_bytes + 1, tick):
            y = self._y(offset)
            lines.append(f'<path d="M{LEFT - 4} {y:.2f}H{right:.2f}" stroke="#cccccc" fill="none"/>')
            lines.append(f'<text x="{LEFT - 7}" y="{y + 3:.2f}" text-anchor="end">{byte_count(offset)}</text>')
        every = -(-LINE // self.column)
        for step, name in enumerate(self.memory.steps):
            if step % every == 0:
                x, short = self._x(step + 0.5), name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
                place = f'x="{x:.2f}" y="{floor + 12:.2f}" transform="rotate(-60 {x:.2f} {floor + 12:.2f})"'
                lines.append(f'<text {place} text-anchor="end">{in_svg(f"{step} {short}")}</text>')
        return lines

    def _peak(self) -> list[str]:
        """The column of the step with the most live bytes."""
        step = self.memory.peak_step
        if step is None:
            return []
        x, height = self._x(step), HEIGHT + 6
        text = f"peak: {self.memory.peak_bytes:,} bytes in {in_svg(self.memory.steps[step])}"
        anchor = "start" if step < self.steps / 2 else "end"
        at = x if anchor == "start" else x + self.column
        return [
            f'<rect class="peak" x="{x:.2f}" y="{TOP - 6}" width="{self.column:.2f}" height="{height}" '
            'fill="none" stroke="#111111" stroke-width="1.5" stroke-dasharray="2 2"/>',
            f'<text x="{at:.2f}" y="{TOP - 10}" text-anchor="{anchor}" font-weight="bold">{text}</text>',
        ]

    def _block(self, block: Block, shade: str) -> list[str]:
        x, y = self._x(block.first), self._y(block.offset + block.size)
        width, height = self._x(block.last + 1) - x, self._y(block.offset) - y
        steps = self.memory.steps
        when = " to ".join(in_svg(steps[step]) for step in dict.fromkeys((block.first, block.last)))
        words = f"{in_svg(block.name)}: {block.size:,} bytes at {block.offset:,}, {when}"
        lines = [
            f'<rect class="block" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{shade}" '
            f'stroke="#333333" stroke-width="0.7"><title>{words}</title></rect>'
        ]
        if height >= LINE and LETTER * len(block.name) + 4 <= width:
            middle = f'x="{x + width / 2:.2f}" y="{y + height / 2 + 3.5:.2f}"'
            lines.append(f'<text {middle} text-anchor="middle">{in_svg(block.name)}</text>')
        return lines

    def _live(self) -> list[str]:
        """The sum of what is alive, as steps."""
        if not self.memory.blocks:
            return []
        path = f"M{LEFT} {self._y(self.memory.live_bytes[0]):.2f}"
        for step, live in enumerate(self.memory.live_bytes):
            path += f"V{self._y(live):.2f}H{self._x(step + 1):.2f}"
        line = 'fill="none" stroke="#111111" stroke-width="1.5" stroke-dasharray="6 3"'
        return [f'<path class="live" d="{path}" {line}/>']
