"""The files of an export: which are made, what is in them, and what is refused in the user's words."""

from __future__ import annotations

import array
import subprocess

import numpy as np
import pytest

import graphc as gc
from graphc.cli import main
from graphc.errors import ArgumentError, ExportError
from graphc_llvm.export_elf import code_and_data
from graphc_llvm.export_names import WORDS
from tests.backends.llvm.export_support import compiled, loaded, output_of, perceptron
from tests.conftest import requires_tool


@pytest.fixture
def predict():
    return perceptron(batch=1)


def names(paths):
    return [path.rsplit("/", 1)[1] for path in paths]


def test_default_files(predict, tmp_path):
    requires_tool("cc")
    written = predict.export(tmp_path / "new" / "digits")
    assert names(written) == ["digits.o", "digits.h", "digits.a", "libdigits.so"] and written.left_out == ()
    again = predict.export(tmp_path / "again" / "digits", loader="python", formats=[])
    assert names(again) == ["digits.o", "digits.h", "libdigits.so", "digits.py"]
    for one, other in zip(written[:2], again[:2], strict=True):
        with open(one, "rb") as first, open(other, "rb") as second:
            assert first.read() == second.read()


def test_static_library_is_as_ar_makes_it(predict, tmp_path):
    ar, nm = requires_tool("ar"), requires_tool("nm")
    predict.export(tmp_path / "digits", formats=["a"])
    subprocess.run([ar, "rcsD", "by_ar.a", "digits.o"], cwd=tmp_path, check=True)
    listed = [output_of([nm, "-s", tmp_path / name]) for name in ("digits.a", "by_ar.a")]
    first, second = ([line for line in text.splitlines() if b" in digits.o" in line] for text in listed)
    assert len(first) == 8 and sorted(first) == sorted(second)
    assert output_of([ar, "p", tmp_path / "digits.a", "digits.o"]) == (tmp_path / "digits.o").read_bytes()


def test_sizes_are_what_binutils_say(predict, tmp_path):
    tool = requires_tool("size")
    written = predict.export(tmp_path / "digits", formats=["o"])
    lines = output_of([tool, "-A", written[0]]).decode().splitlines()
    sections = [line.split() for line in lines if line.startswith((".text", ".rodata"))]
    assert written.code_bytes == sum(int(size) for name, size, _ in sections if name == ".text")
    assert written.data_bytes == sum(int(size) for name, size, _ in sections if name != ".text")
    assert code_and_data(b"\0asm\1\0\0\0") is None


def test_without_a_linker(predict, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    written = predict.export(tmp_path / "digits")
    assert names(written) == ["digits.o", "digits.h", "digits.a"]
    (sentence,) = written.left_out
    assert sentence.startswith("libdigits.so is left out: it needs a C compiler or a linker")
    for options in ({"formats": ["so"]}, {"loader": "python"}):
        with pytest.raises(ExportError, match=r"none of cc, gcc, clang, ld, .* is on the PATH .*test_export_files"):
            predict.export(tmp_path / "digits", **options)


def test_a_linker_that_refuses(predict, tmp_path, monkeypatch):
    (tmp_path / "cc").write_text("#!/bin/sh\necho no room >&2\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ExportError, match=r"cc cannot make libdigits.so: no room"):
        predict.export(tmp_path / "digits", formats=["so"])
    assert not (tmp_path / "digits.o").exists()
    assert "no room" in predict.export(tmp_path / "digits").left_out[0]


def test_ld_alone_makes_the_shared_library(predict, tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ld").symlink_to(requires_tool("ld"))
    monkeypatch.setenv("PATH", str(tools))
    path = predict.export(tmp_path / "digits", loader="python")[-1]
    monkeypatch.undo()
    x = np.random.default_rng(0).random((1, 64), "float32")
    assert np.asarray(loaded(path).run(x)).tobytes() == predict(x).tobytes()


def test_what_cannot_be_written(predict, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match=r"file/digits\.o cannot be written: "):
        predict.export(tmp_path / "file" / "digits")
    (tmp_path / "digits.h").mkdir()
    with pytest.raises(ExportError, match=r"digits\.h cannot be written: "):
        predict.export(tmp_path / "digits")


@pytest.mark.parametrize("name", ["2digits", "class", "_x", "Größe", "...", "if"])
def test_names_that_cannot_be_prefixes(predict, tmp_path, name):
    if name == "Größe":  # letters of other alphabets become underscores
        assert names(predict.export(tmp_path / name, formats=[]))[0] == "Größe.o"
        assert b"Gr__e_run" in (tmp_path / "Größe.h").read_bytes()
        return
    with pytest.raises(ExportError, match="cannot be the prefix of C names"):
        predict.export(tmp_path / name)


def test_options_that_there_are_not(predict, tmp_path):
    path = tmp_path / "digits"
    with pytest.raises(ExportError, match='"embed" or "pass", not \'copy\''):
        predict.export(path, weights="copy")
    with pytest.raises(ExportError, match="there is no format 'dll'; there are o, h, a"):
        predict.export(path, formats=["dll"])
    with pytest.raises(ExportError, match="there is no loader 'perl'; there are python, javascript"):
        predict.export(path, loader="perl")
    with pytest.raises(ExportError, match=r'a \.wasm needs target="wasm32"; the target is x86_64'):
        predict.export(path, loader="javascript", cpu="x86-64")
    with pytest.raises(ExportError, match="unknown processor 'z80'"):
        predict.export(path, cpu="z80")
    with pytest.raises(ArgumentError, match="there is no dimension M"):
        predict.export(path, sizes={"M": 3})
    assert not list(tmp_path.iterdir())


def test_weights_that_are_updated_cannot_be_embedded(tmp_path):
    x, w = gc.input("x", (3,)), gc.param("w", (3,), init=2.0)
    step = gc.compile([x], gc.sum(w * x), {w: w - 0.5 * x}, backend="llvm", name="step")
    with pytest.raises(ExportError, match='step updates w: that needs weights="pass"'):
        step.export(tmp_path / "step", weights="embed")
    step.export(tmp_path / "step", formats=["o"])
    header = (tmp_path / "step.h").read_text()
    assert "    float *w; /* w: float32(3,) */" in header and "    const float *x;" in header


def test_every_word_of_four_languages_can_be_a_tensor(tmp_path):
    words = sorted(WORDS)
    inputs = [gc.input(word, ()) for word in words]
    gc.compile(inputs, gc.sum(gc.stack(inputs)), backend="llvm").export(tmp_path / "words", formats=["so"])
    source = '#include "words.h"\nint main(void) { return words_describe(WORDS_KIND_INPUT, -1) != NULL; }\n'
    for compiler, file, standard in (("gcc", "m.c", "-std=gnu99"), ("g++", "m.cpp", "-std=gnu++17")):
        output_of([compiled(tmp_path, source, standard, compiler=compiler, file=file, objects=["words.o"])])
    module = loaded(gc.compile(inputs, inputs[0], backend="llvm").export(tmp_path / "more", loader="python")[-1])
    assert [facts[0] for facts in module.TENSORS["inputs"].values()] == words


def test_prefixes_that_differ_by_case_alone(tmp_path):
    source = '#include "digits.h"\n#include "Digits.h"\n#include "DIGITS.h"\nint main(void) {\n'
    for name, macro, batch in (("digits", "DIGITS", 1), ("Digits", "Digits", 2), ("DIGITS", "digits", 3)):
        perceptron(batch=batch).export(tmp_path / name, formats=[])
        source += f"    if ({macro}_INPUT_x_SIZE != {64 * batch} || {name}_selftest(NULL, 0) == {macro}_OK) return 1;\n"
        source += f"    if ({name}_workspace_bytes() != {macro}_WORKSPACE_BYTES) return 2;\n"
    objects = ["digits.o", "Digits.o", "DIGITS.o"]
    output_of([compiled(tmp_path, source + "    return 0;\n}\n", "-std=c99", objects=objects)])


def test_names_in_header_and_metadata(tmp_path):
    a, b = gc.input("a.b", (2, 3)), gc.input("a b", (3,))
    hostile = gc.input("*/ x \N{SNOWMAN}", (), dtype="bool")
    function = gc.compile([a, b, hostile], [a @ b, gc.where(hostile, b, -b).named("a_b")], backend="llvm")
    function.export(tmp_path / "names", formats=[])
    source = """
    #include "names.h"
    #include <stdio.h>
    int main(void) {
        static float two[2], three[3];
        static uint8_t yes;
        names_inputs inputs;
        names_outputs outputs;
        int kind, i;
        const names_tensor_info *info;
        inputs.a_b = two;
        inputs.a_b_2 = three;
        inputs.x = &yes;
        outputs.output0 = two;
        outputs.a_b = three;
        (void)inputs;
        (void)outputs;
        for (kind = -1; kind < 4; kind++)
            for (i = 0; (info = names_describe(kind, i)); i++)
                printf("%d %d %s %s %d %d %d %d %d\\n", kind, info->kind, info->name, info->dtype_name, info->rank,
                       (int)info->shape[0], (int)info->bytes, (int)info->dtype, info->is_written);
        return names_describe(0, -1) || names_describe(0, 3) || names_abi_version() != NAMES_ABI_VERSION;
    }
    """
    made = output_of([compiled(tmp_path, source, "-std=c99", objects=["names.o"])]).decode().splitlines()
    assert made == [
        "0 0 a.b float32 2 2 24 0 0",
        "0 0 a b float32 1 3 12 0 0",
        "0 0 */ x \N{SNOWMAN} bool 0 0 1 5 0",
        "2 2 output0 float32 1 2 8 0 1",
        "2 2 a_b float32 1 3 12 0 1",
    ]


def test_loader_refuses_what_does_not_fit(tmp_path):
    x, w = gc.input("x", (2, 3)), gc.param("w", (3,), init=1.0)
    module = loaded(
        gc.compile([x], gc.sum(x * w), {w: w + 1.0}, backend="llvm").export(tmp_path / "fit", loader="python")[-1]
    )
    good, w = array.array("f", range(6)), module.zeros("params", "w")
    assert module.run(good, w)[()] == 0 and list(w) == [1, 1, 1]
    assert module.run(memoryview(bytes(good)).cast("f"), w)[()] == 15  # read-only, which an input may be
    with pytest.raises(TypeError, match="fit: x: elements are float32, not of format 'd'"):
        module.run(array.array("d", range(6)), w)
    with pytest.raises(ValueError, match=r"fit: x: the shape is \(2, 3\) or \(6,\), not \(5,\)"):
        module.run(good[:5], w)
    with pytest.raises(ValueError, match="fit: x: the array is not contiguous"):
        module.run(np.zeros((2, 6), "float32")[:, ::2], w)
    with pytest.raises(ValueError, match="fit: w: it is changed by a call, and this array is read-only"):
        module.run(good, memoryview(bytes(12)).cast("f"))
    with pytest.raises(TypeError, match="fit: x: an array of float32 is needed, not list"):
        module.run([1.0] * 6, w)
    with pytest.raises(ValueError, match="overlaps"):
        shared = array.array("f", range(6))
        module.run(shared, memoryview(shared)[1:4])
    assert list(w) == [2, 2, 2]


SPEC = """
import graphc as gc
x = gc.input("x", ("N", 3))
w = gc.param("w", (3, 2), init=1.0)
y = x @ w
double = gc.compile([x], 2 * x, backend="llvm")
"""


def test_command_prints_the_paths_and_sizes(tmp_path, capsys):
    requires_tool("cc")
    (tmp_path / "model.py").write_text(SPEC)
    folder = tmp_path / "out"
    assert main(["build", f"{tmp_path}/model.py:y", "-o", f"{folder}", "--size", "N=4", "--loader", "python"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0].rsplit("/", 1)[1] for line in lines[:-1]] == ["y.o", "y.h", "y.a", "liby.so", "y.py"]
    assert lines[-1].endswith("of read-only data")
    found = loaded(folder / "y.py").run(np.ones((4, 3), "float32"))
    assert np.asarray(found).tolist() == [[3.0, 3.0]] * 4
    options = ["-o", f"{folder}", "--name", "twice", "--weights", "pass", "--formats", "a", "--cpu", "x86-64-v2"]
    assert main(["build", f"{tmp_path}/model.py:double", *options]) == 0
    assert "twice.a" in capsys.readouterr().out and (folder / "twice.h").is_file()


def test_command_says_what_is_wrong_in_one_line(tmp_path, capsys, monkeypatch):
    (tmp_path / "model.py").write_text(SPEC)
    build = ["build", f"{tmp_path}/model.py:y", "-o", f"{tmp_path}"]
    assert main([*build, "--formats", "exe"]) == 1
    assert capsys.readouterr().err == "graphc: export: there is no format 'exe'; there are o, h, a, so, wasm\n"
    assert main([*build, "--size", "M=2"]) == 2
    assert main([*build, "--target", "pdp11"]) == 1
    assert "unknown target 'pdp11'; known: " in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(build) == 0
    assert "liby.so is left out: " in capsys.readouterr().out
