"""Interning: structurally equal immutable values are one object, so equality is identity and hashing is free.

The tables are weak: a value lives as long as somebody holds it. They are the one piece of process-wide mutable state
that structural sharing needs, and no result depends on what they hold.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar
from weakref import WeakValueDictionary

_T = TypeVar("_T")
_table: WeakValueDictionary[Any, Any] = WeakValueDictionary()
_lock = threading.RLock()


class Interned(type):
    """Metaclass: calling the class with equal arguments returns the one instance that already exists.

    Arguments must be hashable. A class whose arguments compare equal although they mean different things (0.0 and
    -0.0) defines a static method `intern_key(*args)` that tells them apart.
    """

    def __call__(cls: type[_T], *args: Any) -> _T:
        key_function = getattr(cls, "intern_key", None)
        key = (cls, *args) if key_function is None else (cls, key_function(*args))
        found = _table.get(key)
        if found is None:
            with _lock:
                found = _table.get(key)
                if found is None:
                    found = type.__call__(cls, *args)
                    _table[key] = found
        result: _T = found
        return result
