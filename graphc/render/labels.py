"""Text for DOT: HTML-like labels of several lines, in which any name may stand."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence

from graphc.render.picture import Line

VALUE_COLOUR = "#00603a"
GRADIENT_COLOUR = "#a8123e"
QUIET_COLOUR = "#5a5a5a"
PALE_COLOUR = "#c4c4c4"
LONGEST = 60  # letters of one line of a label
LONGEST_TIP = 160  # ... and of a tooltip


def plain(text: str, longest: int = LONGEST) -> str:
    """One line that XML and DOT can hold: control characters as their escapes, long text cut."""
    letters = [
        letter if not unicodedata.category(letter).startswith("C") else letter.encode("unicode_escape").decode()
        for letter in text
    ]
    line = "".join(letters)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def escaped(text: str) -> str:
    """Text for an HTML-like label or a tooltip: Graphviz reads entities in both."""
    return _entities(plain(text))


def tip(text: str) -> str:
    """A line of a tooltip, which may be longer."""
    return _entities(plain(text, LONGEST_TIP))


def in_svg(text: str) -> str:
    """A text of SVG that we write ourselves."""
    return html.escape(plain(text), quote=True)


def _entities(text: str) -> str:
    """For Graphviz, which reads a backslash and a letter as an escape, and two backslashes as one."""
    return html.escape(text, quote=True).replace("&#x27;", "&#39;").replace("\\", "\\\\")


def marked(line: Line) -> str:
    """A line in its style. A gradient is slanted and red, so that it is told from a value without colour."""
    text = escaped(line.text)
    match line.style:
        case "bold":
            return f"<b>{text}</b>"
        case "italic":
            return f"<i>{text}</i>"
        case "quiet":
            return f'<font color="{QUIET_COLOUR}" point-size="10">{text}</font>'
        case "value":
            return f'<font color="{VALUE_COLOUR}">{text}</font>'
        case "gradient":
            return f'<font color="{GRADIENT_COLOUR}"><i>{text}</i></font>'
    return text


def pale(line: Line) -> str:
    """A line in its style that hardly stands out; it takes the same room."""
    text = {"bold": f"<b>{escaped(line.text)}</b>", "italic": f"<i>{escaped(line.text)}</i>"}
    size = ' point-size="10"' if line.style == "quiet" else ""
    return f'<font color="{PALE_COLOUR}"{size}>{text.get(line.style, escaped(line.text))}</font>'


def unseen(text: str) -> str:
    """A text that only takes room."""
    return f'<font color="#ffffff00">{escaped(text)}</font>'


def byte_count(count: int) -> str:
    """A number of bytes in the largest unit of which it is one or more."""
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} B"


def lines(parts: Sequence[str]) -> str:
    """A label of several lines, each an escaped part."""
    return "<" + "<br/>".join(parts) + ">"


def around_edge(above: Sequence[str], below: Sequence[str]) -> str:
    """A label whose middle lies on the edge: as many lines above it as below, empty ones where there are fewer."""
    rows = max(len(above), len(below))
    padded = [*[" "] * (rows - len(above)), *above, *below, *[" "] * (rows - len(below))]
    cells = "".join(f"<tr><td>{part}</td></tr>" for part in padded)
    veil = ' bgcolor="#ffffffcc"' if rows > 1 else ""  # a sloping edge goes pale behind several lines
    return f'<<table border="0" cellborder="0" cellspacing="0" cellpadding="1"{veil}>{cells}</table>>'
