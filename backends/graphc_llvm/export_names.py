"""Names of tensors as names of C: of struct fields, and the prefix of all that an exported program defines.

>>> field_names(["0.weight", "exp_avg/0.weight", "exp_avg_0_weight", "type", "Größe"])
['w_0_weight', 'exp_avg_0_weight', 'exp_avg_0_weight_2', 'type_', 'Gr_e']
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_C = (
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while "
    "alignas alignof bool constexpr false nullptr static_assert thread_local true typeof typeof_unqual asm"
)
_CPP = (
    "and and_eq bitand bitor catch char8_t char16_t char32_t class co_await co_return co_yield compl concept consteval "
    "constinit const_cast decltype delete dynamic_cast explicit export friend mutable namespace new noexcept not "
    "not_eq operator or or_eq private protected public reinterpret_cast requires static_cast template this throw try "
    "typeid typename using virtual wchar_t xor xor_eq final override import module"
)
_RUST = (
    "as async await become box crate dyn fn gen impl in let loop macro match mod move mut priv pub ref self Self super "
    "trait type unsafe unsized use where yield abstract"
)
_PYTHON = "False None True assert def del elif except finally from global is lambda nonlocal pass raise with"
_MACROS = "NULL errno linux unix i386 near far interface small assert offsetof stdin stdout stderr main"
WORDS: Final = frozenset(" ".join((_C, _CPP, _RUST, _PYTHON, _MACROS)).split())
"""Words of C (to C23), C++ (to C++23), Rust and Python that cannot be names, and macros that common compilers and
headers define."""


def is_prefix(name: str) -> bool:
    """Whether names of functions and types may begin so: names that begin with an underscore are the compiler's
    (C11, 7.1.3)."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) is not None and name not in WORDS


def macro_prefix(prefix: str) -> str:
    """The prefix of macros: in capitals, as is the custom. One that has capitals itself stays as it is, and one all in
    capitals becomes small, so that no two prefixes, which may differ by case alone, share one.

    >>> [macro_prefix(prefix) for prefix in ("digits", "Digits", "DIGITS")]
    ['DIGITS', 'Digits', 'digits']
    """
    if prefix == prefix.lower():
        return prefix.upper()
    return prefix.lower() if prefix == prefix.upper() else prefix


def field_name(name: str) -> str:
    """One name: each run of anything but ASCII letters and digits becomes an underscore, as C++ reserves two; those at
    the ends go. Before a digit comes w_ (such names are those of weights: 0.weight becomes w_0_weight), and behind a
    word of a language an underscore."""
    found = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "unnamed"
    if found[0].isdigit():
        return f"w_{found}"
    return f"{found}_" if found in WORDS else found


def field_names(names: Iterable[str]) -> list[str]:
    """The names of the fields of one struct: where two would be the same, the later one gets a number."""
    made: list[str] = []
    for name in names:
        stem = found = field_name(name)
        number = 2
        while found in made:
            found, number = f"{stem}_{number}", number + 1
        made.append(found)
    return made
