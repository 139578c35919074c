"""A Picture as an HTML page: one file, which asks for nothing from a network.

The page's style and scripts lie in `assets/` and are put into it as they are. The picture stands in it as JSON, in
which every letter that could end a script or start a tag is escaped. The scripts fold it (`fold.js`), lay it out
(`layout.js` with `rank.js`, `order.js` and `place.js`), draw it (`draw.js`), show it step by step (`sequence.js`) and
listen to the reader (`page.js`, `controls.js`).
"""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any

from graphc.render.picture import KINDS, Box, Line, Picture

STYLES = ("page.css", "drawing.css")
SCRIPTS = ("layout", "rank", "order", "place", "fold", "draw", "sequence", "words", "page", "controls")
HARMLESS = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def page_of(picture: Picture, *, is_sequence: bool = False) -> str:
    """The page as text, to be written as UTF-8. The same picture gives the same text.

    picture: with every box; the page folds its groups itself. is_sequence: the page begins with the first step; else
    it begins with everything shown.

    >>> page = page_of(Picture("a box", (Box("n0", "op", (Line("x < y"),)),), ()))
    >>> page.startswith("<!DOCTYPE html>"), "x < y" in page, "x \\\\u003c y" in page
    (True, False, True)
    """
    return Template(_asset("page.html")).substitute(
        title=html.escape(visible(picture.title)),
        style="\n".join(_asset(name) for name in STYLES),
        picture=json.dumps(_plain(picture) | {"isSequence": is_sequence}, separators=(",", ":")).translate(HARMLESS),
        script="\n".join(_asset(f"{name}.js") for name in SCRIPTS),
    )


def visible(text: str) -> str:
    """The text with control characters and halves of surrogate pairs, which a page cannot show, as their escapes."""
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in ("Cc", "Cs") else letter
        for letter in text
    )


def _asset(name: str) -> str:
    return resources.files("graphc.render").joinpath("assets", name).read_text(encoding="utf-8")


def _plain(picture: Picture) -> dict[str, Any]:
    """The picture in the words of the scripts. Lines are pairs of a text and a style."""
    return {
        "title": visible(picture.title),
        "direction": picture.direction,
        "kinds": dict(KINDS),
        "boxes": [_plain_box(box) for box in picture.boxes],
        "arrows": [
            {
                "source": arrow.source,
                "target": arrow.target,
                "role": arrow.role,
                "above": _lines(arrow.above),
                "below": _lines(arrow.below),
            }
            for arrow in picture.arrows
        ],
        "groups": [
            {
                "key": group.key,
                "parent": group.parent,
                "title": visible(group.title),
                "lines": _lines(group.lines),
                "gradientLines": _lines(group.gradient_lines),
                "kind": group.kind,
                "isFolded": group.is_folded,
            }
            for group in picture.groups
        ],
        "steps": [
            {"boxes": list(step.boxes), "gradients": list(step.gradients), "caption": visible(step.caption)}
            for step in picture.steps
        ],
        "notes": _lines(picture.notes),
    }


def _plain_box(box: Box) -> dict[str, Any]:
    return {
        "id": box.id,
        "kind": box.kind,
        "lines": _lines(box.lines),
        "half": box.half,
        "group": box.group,
        "owner": box.owner,
        "beside": box.beside,
        "isShared": box.is_shared,
        "details": [[visible(heading), [visible(text) for text in texts]] for heading, texts in box.details.items()],
    }


def _lines(lines: Sequence[Line]) -> list[tuple[str, str]]:
    return [(visible(line.text), line.style) for line in lines]
