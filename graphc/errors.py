"""The errors that graphc raises, each in the user's words.

Every class derives from `GraphcError` and from the built-in class that a NumPy user would expect (`ValueError` for
shapes and values, `TypeError` for dtypes), so that existing handlers keep working. A message names the op, the
shapes or dtypes, and, where the expression came from a script, the user's file and line:

>>> error = ShapeError("matmul: inner extents differ", "model.py:12")
>>> str(error)
'matmul: inner extents differ (model.py:12)'
"""

from __future__ import annotations


class GraphcError(Exception):
    """Base of all graphc errors. `where` is the user's `file:line`, or None when no line is to blame."""

    def __init__(self, message: str, where: str | None = None) -> None:
        super().__init__(f"{message} ({where})" if where else message)
        self.message = message
        self.where = where


class ShapeError(GraphcError, ValueError):
    """Shapes that do not fit an op."""


class DTypeError(GraphcError, TypeError):
    """A dtype that an op, an input or a compiled function cannot take."""


class IndexNotationError(GraphcError, ValueError):
    """A line given to `gc.define` that cannot be read, or that reads outside an array."""


class GradientError(GraphcError, ValueError):
    """A gradient that does not exist or was not asked for in a meaningful way."""


class ArgumentError(GraphcError, ValueError):
    """A call of a compiled function, or of a public function, with arguments that do not fit."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument of the wrong kind (a string where an array is expected, say)."""


class CompileError(GraphcError):
    """A graph that cannot be compiled as asked."""


class BackendError(CompileError):
    """An unknown, broken or unsuitable backend."""


class ExportError(GraphcError):
    """An export that cannot be written as asked."""


class VerifyError(GraphcError):
    """An invalid graph or program: a defect of graphc or of a pass, never of the user's model."""


class DataError(GraphcError, ValueError):
    """A data file that is missing, truncated, or not what its name says."""


class SpecError(GraphcError):
    """A command-line SPEC that names nothing that can be used."""
