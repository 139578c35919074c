"""Checkpoint files: what is written is read back, or refused in words."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import random
import signal
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc import files
from graphc.errors import DataError
from graphc.nn import cross_entropy
from graphc.train import checkpoint
from tests.cache_support import in_child, needs_fork
from tests.train.support import data, net

STEPS = ("open", "write", "fsync", "close", "replace")
"""The calls of the operating system that a writer makes, in which or between which it may die."""

ARRAYS = {
    "now/0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "now/step": np.float32(3.5).reshape(()),
    "now/counter": np.array(7, dtype=np.int64),
    "best/0.weight": np.array([[np.nan, -0.0, np.inf]]),
    "now/none": np.zeros((0, 4), np.int32),
    "now/äß/µ": np.array([True, False]),
}
HEADER = {"epoch": 3, "best_value": float("inf"), "third": 1 / 3}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run.npz")


def written(path: str) -> bytes:
    checkpoint.write(path, HEADER, ARRAYS)
    return Path(path).read_bytes()


def assert_read(path: str) -> None:
    header, arrays = checkpoint.read(path)
    assert {name: header[name] for name in HEADER} == HEADER
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()


def test_what_is_written_is_read(path):
    written(path)
    assert_read(path)


def test_numpy_reads_the_file_without_pickle(path):
    written(path)
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["now/0.weight"], ARRAYS["now/0.weight"])
        assert json.loads(arrays["header"].tobytes())["format"] == "graphc checkpoint"


def test_the_same_content_is_the_same_bytes(path):
    assert written(path) == written(path)


def test_what_a_link_points_to_is_replaced(path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "run.npz"
    os.symlink(target, path)
    written(path)
    assert os.path.islink(path) and target.is_file()
    assert_read(path)


# --- Files that are not to be trusted -------------------------------------------------------------------------------


def test_every_truncation_is_refused(path):
    content = written(path)
    for length in range(0, len(content), 11):
        Path(path).write_bytes(content[:length])
        with pytest.raises(DataError, match=r"run\.npz"):
            checkpoint.read(path)


def test_every_damaged_byte_is_refused_or_does_not_matter(path):
    array = np.arange(3, dtype=np.float32)
    checkpoint.write(path, {"epoch": 1}, {"now/x": array})
    content = Path(path).read_bytes()
    refused = 0
    for position in range(0, len(content), 2):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position // 2 % 8)
        Path(path).write_bytes(damaged)
        try:
            header, arrays = checkpoint.read(path)
            assert header["epoch"] == 1 and list(arrays) == ["now/x"] and (arrays["now/x"] == array).all()
        except DataError as error:
            assert str(error).startswith(path)
            refused += 1
    assert refused > len(content) // 4  # the rest are dates and flags of the archive, which nobody reads


def test_random_damage_is_refused(path):
    content = written(path)
    choose = random.Random(1)
    for _ in range(60):
        damaged = bytearray(content)
        start = choose.randrange(len(content))
        stop = min(len(content), start + choose.randrange(1, 60))
        damaged[start:stop] = choose.choice((b"", choose.randbytes(stop - start), bytes(stop - start)))
        Path(path).write_bytes(damaged)
        with contextlib.suppress(DataError):
            assert_read(path)


def foreign(path: str, kind: str) -> None:
    if kind == "text":
        Path(path).write_text("a,b\n1,2\n")
    elif kind == "empty":
        Path(path).write_bytes(b"")
    elif kind == "other npz":
        np.savez(path, weight=np.zeros(3))
    elif kind == "pickle":
        np.savez(path, header=np.array([{"format": "graphc checkpoint"}], dtype=object))
    elif kind == "compressed":
        np.savez_compressed(path, header=np.zeros(3, np.uint8))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("header.npy", "not an array")
    elif kind == "other json":
        np.savez(path, header=np.frombuffer(b"[1, 2]", np.uint8))
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "later version":
        text = json.dumps({"format": "graphc checkpoint", "version": 99})
        np.savez(path, header=np.frombuffer(text.encode(), np.uint8))
    elif kind == "no header fields":
        text = json.dumps({"format": "graphc checkpoint", "version": 1})
        np.savez(path, header=np.frombuffer(text.encode(), np.uint8))


KINDS = "text empty|other npz|pickle|compressed|zip|other json|folder|later version|no header fields"


@pytest.mark.parametrize("kind", KINDS.replace(" empty", "|empty").split("|"))
def test_foreign_files_are_refused_and_left_alone(path, kind):
    foreign(path, kind)
    before = None if kind == "folder" else Path(path).read_bytes()
    model = net()
    start = [p.value for p in model.parameters()]
    with pytest.raises(DataError, match=r"run\.npz"):
        gc.fit(model, cross_entropy, data(), optimiser=gc.optim.SGD(0.1), epochs=1, checkpoint=path)
    assert before is None or Path(path).read_bytes() == before
    assert all((p.value == s).all() for p, s in zip(model.parameters(), start, strict=True))


def test_an_announcement_takes_no_memory(path):
    """A header that claims a terabyte is refused by the bytes that are there."""
    array = np.zeros(4, np.float32)
    checkpoint.write(path, HEADER, {"now/x": array})
    content = Path(path).read_bytes()
    claimed = content.replace(b"'shape': (4,), }        ", b"'shape': (250000000000,)}")
    assert claimed != content
    with pytest.raises(DataError):
        Path(path).write_bytes(claimed)
        checkpoint.read(path)


# --- Another run ----------------------------------------------------------------------------------------------------


def fit(path, model, optimiser, **options):
    given = {"epochs": 1, "batch_size": 16, "data": data(), "backend": "numpy", **options}
    return gc.fit(model, cross_entropy, given.pop("data"), optimiser=optimiser, checkpoint=path, **given)


def test_another_model_is_refused_with_the_differences(path):
    fit(path, net(), gc.optim.SGD(0.1))
    before = Path(path).read_bytes()
    other = gc.nn.Sequential(
        gc.nn.Linear(6, 9, seed=0), gc.nn.ReLU(), gc.nn.Linear(9, 4, bias=False, seed=1), gc.nn.Linear(4, 4)
    )
    start = [p.value for p in other.parameters()]
    with pytest.raises(DataError) as caught:
        fit(path, other, gc.optim.Adam(0.1))
    message = str(caught.value)
    assert message.startswith(f"{path}: a checkpoint of another model or optimiser: ")
    assert "0.weight is float32(8, 6) in the file, float32(9, 6) here" in message
    assert "1.mean is in the file alone" in message
    assert "2.weight is not in the file" in message
    assert "more" in message
    assert Path(path).read_bytes() == before
    assert all((p.value == s).all() for p, s in zip(other.parameters(), start, strict=True))


def test_another_optimiser_is_refused(path):
    fit(path, net(), gc.optim.SGD(0.1))
    with pytest.raises(DataError, match=r"exp_avg/0\.weight is not in the file"):
        fit(path, net(), gc.optim.Adam(0.1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 8}, "batch_size is 16 in the file, 8 here"),
        ({"seed": 3}, "seed is 0 in the file, 3 here"),
        ({"drop_last": True}, "drop_last is False in the file, True here"),
        ({"data": data(49)}, r"arrays is \[\['float32', 64, 6\], \['int64', 64\]\] in the file"),
    ],
)
def test_other_settings_are_refused(path, options, message):
    fit(path, net(), gc.optim.SGD(0.1))
    with pytest.raises(DataError, match=message):
        fit(path, net(), gc.optim.SGD(0.1), **{"epochs": 2, **options})


def test_a_trained_trainer_does_not_take_another_file(path):
    fit(path, net(), gc.optim.SGD(0.1))
    trainer = gc.Trainer(net(), cross_entropy, gc.optim.SGD(0.1))
    trainer.fit(data(), epochs=1)
    with pytest.raises(DataError, match="exists, and the trainer has been trained already"):
        trainer.fit(data(), epochs=2, checkpoint=path)


def test_a_refused_file_leaves_the_trainer_as_it_was(path):
    fit(path, net(), gc.optim.SGD(0.1), epochs=2)
    trainer = gc.Trainer(net(), cross_entropy, gc.optim.Adam(0.1), backend="numpy")
    for _ in range(2):
        with pytest.raises(DataError, match="of another model or optimiser"):
            trainer.fit(data(), epochs=5, batch_size=16, checkpoint=path)
    assert trainer.history.epochs == 0
    assert trainer.fit(data(), epochs=1, batch_size=16).epochs == 1


def test_a_missing_folder_is_told_before_training(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        fit(str(tmp_path / "nowhere" / "run.npz"), net(), gc.optim.SGD(0.1))


# --- Writers that fail or die ---------------------------------------------------------------------------------------


@pytest.mark.feature("E.checkpoints")
@pytest.mark.parametrize("failing", ["write", "fsync", "replace", "open"])
def test_a_full_disk_ends_no_training(path, monkeypatch, failing):
    fit(path, net(), gc.optim.SGD(0.1))
    before = Path(path).read_bytes()
    original = getattr(os, failing)

    def fail(first: object, *rest: object, **options: object) -> object:
        if failing == "open" and not str(first).endswith(".new"):
            return original(first, *rest, **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.warns(RuntimeWarning, match="cannot be written .No space left on device"):
            history = fit(path, net(), gc.optim.SGD(0.1), epochs=3)
    assert history.epochs == 3
    assert Path(path).read_bytes() == before and os.listdir(os.path.dirname(path)) == ["run.npz"]


def test_short_writes_are_no_failure(path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, bytes(content)[:97]))
    written(path)
    assert_read(path)


@pytest.mark.feature("E.checkpoints")
def test_an_interrupt_leaves_the_old_file(path, monkeypatch):
    before = written(path)

    def interrupt(file: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(path, {}, {})
    assert Path(path).read_bytes() == before and os.listdir(os.path.dirname(path)) == ["run.npz"]


def dying(path: str, steps: list[str], at: int | None) -> None:
    """Write, and die by SIGKILL in the call of number `at`: before its effect, or, of a write, in its midst."""

    def counted(name, original, *arguments, **options):
        steps.append(name)
        if len(steps) - 1 == at:
            if name == "write":
                file, content = arguments
                original(file, bytes(content)[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    for name in STEPS:
        setattr(os, name, functools.partial(counted, name, getattr(os, name)))
    checkpoint.write(path, HEADER, ARRAYS)


@pytest.mark.feature("E.checkpoints")
@needs_fork
@pytest.mark.parametrize("is_new", [True, False])
def test_a_writer_that_is_killed_at_any_step(path, monkeypatch, is_new):
    steps: list[str] = []
    with monkeypatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, getattr(os, name))  # restored at the end
        patch.setattr(files, "_BUFFER_BYTES", 300)  # several writes
        dying(path, steps, None)
        assert set(steps) == set(STEPS) and steps.count("write") > 4
        place = steps.index("replace")
        assert "fsync" in steps[:place] and "fsync" in steps[place:], "the content, then the name"
        outcomes = set()
        for at in range(len(steps)):
            Path(path).unlink(missing_ok=True)
            if not is_new:
                checkpoint.write(path, {"epoch": 2}, {})
            status = in_child(functools.partial(dying, path, [], at))
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            if os.path.exists(path):
                outcomes.add(checkpoint.read(path)[0]["epoch"])
                if outcomes == {3}:
                    assert_read(path)
            else:
                outcomes.add(None)
            checkpoint.write(path, {"epoch": 9}, {})  # the next one is written over what was left
            assert checkpoint.read(path)[0]["epoch"] == 9 and os.listdir(os.path.dirname(path)) == ["run.npz"]
        assert outcomes == {None if is_new else 2, 3}


def test_no_warning_in_the_usual_case(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(path, net(), gc.optim.SGD(0.1))
