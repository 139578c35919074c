"""An object that calls the compiler's run-time library says so; others call nothing."""

from __future__ import annotations

import re

import pytest

import graphc as gc
from graphc.cli import main
from graphc_llvm.export_elf import undefined_symbols


def product(x, y):
    return gc.exp(x) @ y + gc.floor(y[:3])


def exported(folder, dtype, expression=product, **options):
    """The undefined symbols, the header's first comment, and the notes."""
    x, y = gc.input("x", (3, 4), dtype=dtype), gc.input("y", (4,), dtype=dtype)
    function = gc.compile([x, y], expression(x, y), backend="llvm", name="product")
    files = function.export(folder / "made", formats=[], **options)
    said = (folder / "made.h").read_text(encoding="ascii").partition("*/")[0]
    return undefined_symbols((folder / "made.o").read_bytes()), said, files.notes


@pytest.mark.parametrize("options", [{"target": "cortex-m4"}, {"target": "cortex-m7", "cpu": "cortex-m7-fp64"}])
def test_float64_without_instructions_for_it(options, tmp_path):
    symbols, said, notes = exported(tmp_path, "float64", **options)
    assert {"__aeabi_dadd", "__aeabi_dmul", "__aeabi_ddiv"} & set(symbols)
    assert re.findall(r"__\w+", said) == sorted(symbols) and "-lgcc" in said and "need nothing else" not in said
    assert max(map(len, said.splitlines())) <= 120
    (note,) = notes
    assert note.startswith("made.o calls functions of the compiler's run-time library") and "-lgcc" in note
    assert re.findall(r"__\w+", note) == sorted(symbols)


def test_a_square_root_without_instructions_for_it(tmp_path):
    symbols, said, notes = exported(tmp_path, "float64", lambda x, y: gc.sqrt(x), target="cortex-m4")
    assert "sqrt" in symbols and re.findall(r"__\w+|sqrt", said) == sorted(symbols)
    assert "-lm -lc -lgcc" in said and "-lm -lc -lgcc" in notes[0]


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("float32", {"target": "cortex-m4"}), ("float64", {"target": "cortex-m7"}), ("float64", {}),
        ("float64", {"target": "armv7-linux"}), ("float64", {"target": "riscv64-linux"}),
        ("float64", {"target": "wasm32"}),
    ],
)
def test_all_others_need_nothing(dtype, options, tmp_path):
    symbols, said, notes = exported(tmp_path, dtype, **options)
    assert symbols == [] and notes == ()
    assert "Programs link it and need nothing else." in said


def test_whole_numbers_are_divided_everywhere(tmp_path):
    for dtype in ("int32", "int64"):
        x, y = gc.input("x", (9,), dtype=dtype), gc.input("y", (9,), dtype=dtype)
        function = gc.compile([x, y], [x // y, x % y], backend="llvm", name="divided")
        for target in ("armv7-linux", "cortex-m4", "riscv64-linux"):
            function.export(tmp_path / "made", formats=[], target=target)
            assert undefined_symbols((tmp_path / "made.o").read_bytes()) == []


def test_the_command_says_it_too(tmp_path, capsys):
    (tmp_path / "wide.py").write_text(
        "import graphc as gc\nx = gc.input('x', (3,), dtype='float64')\ny = gc.exp(x)\n", encoding="utf-8"
    )
    assert main(["build", f"{tmp_path}/wide.py:y", "-o", f"{tmp_path}/out", "--target", "cortex-m4"]) == 0
    said = capsys.readouterr().out
    assert "run-time library" in said.splitlines()[-1]
    assert main(["build", f"{tmp_path}/wide.py:y", "-o", f"{tmp_path}/out", "--target", "cortex-m7"]) == 0
    assert "run-time library" not in capsys.readouterr().out


def test_undefined_symbols_are_named():
    assert undefined_symbols(b"no object file") == []
