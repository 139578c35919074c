"""Run commands `graphc ...`, each in a process of its own: what one loads changes no name in the next.

The processes are forked from one that has imported graphc and nothing of a user's, which takes a tenth of the time that
a new Python needs.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_LOADED = ["graphc.cli.check", "graphc.cli.render", "graphc.cli.show", "graphc_llvm", "pygraphviz"]
_CONTEXT.set_forkserver_preload(_LOADED)


def graphc(arguments: Sequence[str], folder: Path) -> str:
    """What `graphc ARGUMENTS` prints in a folder. Errors: `ValueError` where it fails; its words are on stderr."""
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_run, args=(list(arguments), str(folder), sender))
    process.start()
    sender.close()  # so that a process that dies ends the wait
    try:
        code, printed = receiver.recv()
    except EOFError:
        code, printed = None, ""
    process.join()
    if code != 0:
        raise ValueError(f"graphc {' '.join(arguments)}: exit code {process.exitcode if code is None else code}")
    return str(printed)


def _run(arguments: list[str], folder: str, sender: Connection) -> None:
    from graphc.cli import main  # loaded here, in the new process

    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        code = main(arguments)
    sender.send((code, stream.getvalue()))
