"""A picture in a file: SVG, PNG and PDF through Graphviz, DOT as text, HTML as a page; or all its steps, one a file."""

from __future__ import annotations

import os
from pathlib import Path

from graphc.errors import ArgumentError
from graphc.render.dot import dot_of_picture
from graphc.render.fold import fold
from graphc.render.layout import PICTURES, DrawingError, lay_out
from graphc.render.page import page_of
from graphc.render.picture import Picture

DOT_SUFFIXES = ("dot", "gv")
PAGE_SUFFIXES = ("html", "htm")
SUFFIXES = (*PICTURES, *DOT_SUFFIXES, *PAGE_SUFFIXES)


def format_of(path: str | os.PathLike[str] | None) -> str:
    """The kind of file that a path's suffix names; SVG without a path. Errors: `ArgumentError`."""
    kind = "svg" if path is None else Path(path).suffix.lower().removeprefix(".")
    if kind not in SUFFIXES:
        raise ArgumentError(f"render: {os.fspath(path or '')!r} ends in none of {', '.join(f'.{s}' for s in SUFFIXES)}")
    return kind


def write(picture: Picture, path: str | os.PathLike[str] | None) -> str:
    """The path, or the SVG text where there is none.

    Where nothing can lay a picture out, the DOT text is written beside it and a `DrawingError` says what to install.
    """
    kind = format_of(path)
    if kind in PAGE_SUFFIXES:
        return _save(str(path), page_of(picture).encode())
    return _write_dot(dot_of_picture(fold(picture)), path, kind)


def write_steps(picture: Picture, path: str | os.PathLike[str]) -> list[str]:
    """A picture for each step of the sequence, numbered before the suffix: f-01.svg, f-02.svg, ... An HTML page is one
    file, which begins with the first step. Returns the paths."""
    kind = format_of(path)
    if kind in PAGE_SUFFIXES:
        return [_save(str(path), page_of(picture, is_sequence=True).encode())]
    folded = fold(picture)
    target = Path(path)
    width = max(2, len(str(len(folded.steps))))
    return [
        _write_dot(dot_of_picture(folded, step), target.with_stem(f"{target.stem}-{step + 1:0{width}}"), kind)
        for step in range(len(folded.steps))
    ]


def _write_dot(dot: str, path: str | os.PathLike[str] | None, kind: str) -> str:
    if path is None:
        return lay_out(dot, "svg").decode()
    target = Path(path)
    if kind in DOT_SUFFIXES:
        return _save(str(target), dot.encode())
    try:
        drawn = lay_out(dot, kind)
    except DrawingError as error:
        fallback = _save(str(target.with_suffix(".dot")), dot.encode())
        raise DrawingError(f"{error.message}; the DOT text is in {fallback}") from None
    return _save(str(target), drawn)


def _save(path: str, content: bytes) -> str:
    Path(path).write_bytes(content)
    return path
