"""A thread that reads ahead: it takes the next items from an iterator while the caller computes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Generic, Self, TypeVar

AHEAD = 2
"""Items that wait at most: one to go on with, and one for when the next takes longer than a step."""

POLL_SECONDS = 0.1
"""How often a caller that waits for an item looks whether it should stop waiting."""

JOIN_SECONDS = 2.0
"""How long `close` waits for a thread that is inside the iterator; it ends when the iterator hands on or returns."""

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Iterates over what `make()` gives, in the same order. An error in it is raised here, with its traceback.

    `make` and all of the iterator run in the thread, which ends when the iterator does, when it fails, and after
    `close`; a generator is closed then. `should_stop` ends the iteration while it waits.
    """

    def __init__(self, make: Callable[[], Iterator[T]], should_stop: Callable[[], bool] = lambda: False) -> None:
        self._make, self._should_stop = make, should_stop
        self._items: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
        self._room = threading.Semaphore(AHEAD)
        self._is_closed = False
        self._thread = threading.Thread(target=self._read, name="graphc-reader", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        source: Iterator[T] | None = None
        try:
            source = self._make()
            for item in source:
                self._room.acquire()
                if self._is_closed:
                    return
                self._items.put((item,))
            self._items.put(None)
        except BaseException as error:  # it belongs to the caller, whatever it is
            self._items.put(error)
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                with suppress(Exception):  # what a generator does when it is closed is no error of the training
                    close()

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                found = self._items.get(timeout=POLL_SECONDS)
            except Empty:
                if self._should_stop():
                    return
                continue
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            self._room.release()
            yield found[0]

    def close(self) -> None:
        """End the thread."""
        self._is_closed = True
        self._room.release()
        self._thread.join(JOIN_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
