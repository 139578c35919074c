"""Exported WebAssembly in a page of headless Chromium, from a small server: predictions, a training step, workers, many
programs at once, and what is said when something is wrong. `make test-browser` runs this file; its name keeps it out of
`make test`, which needs no browser.
"""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from tests.embed.targets_wasm import node

WASM = "application/wasm"
UNKNOWN = "application/octet-stream"  # what servers say that do not know .wasm
LOAD = "const { default: load } = await import('./model.mjs'); "


@contextmanager
def served(folder: Path, wasm_type: str) -> Iterator[str]:
    """The folder's address; `wasm_type` is what the server says that a .wasm is."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = {".html": "text/html", ".mjs": "text/javascript", ".wasm": wasm_type}  # noqa: RUF012  # as there

        def log_message(self, format: str, *args: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def opened(browser: Any, folder: Path, wasm_type: str = WASM, complaints: int = 0) -> Iterator[Any]:
    """An empty page beside the exported files. The browser complains of as many things as are said."""
    (folder / "index.html").write_text("<!doctype html><title>model</title><link rel=icon href='data:,'>", "utf-8")
    context = browser.new_context()
    context.set_default_timeout(30_000)
    page = context.new_page()
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text))
    page.on("pageerror", lambda error: found.append(str(error)))
    try:
        with served(folder, wasm_type) as address:
            page.goto(f"{address}/index.html")
            yield page
    finally:
        context.close()
    assert len(found) == complaints, found


def ran(page: Any, script: str, given: Any = None) -> Any:
    """What the body of an async function of `given` returns in the page."""
    return page.evaluate(f"async (given) => {{ {LOAD} {script} }}", given)


def export(folder: Path, function: Any) -> None:
    function.export(folder / "model", target="wasm32", formats=["wasm"], loader="javascript")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A classifier of handwritten digits, exported; as a function, and some images."""
    folder = tmp_path_factory.mktemp("digits")
    model = gc.nn.Sequential(gc.nn.Linear(64, 32, seed=0), gc.nn.ReLU(), gc.nn.Linear(32, 10, seed=1))
    images, labels = gc.data.digits()
    gc.Trainer(model, gc.nn.cross_entropy, gc.optim.Adam(lr=3e-3)).fit(
        (images[:1000], labels[:1000]), epochs=3, batch_size=50, progress=False
    )
    image = gc.input("image", (1, 64))
    scores = model(image)
    outputs = [gc.softmax(scores).named("probabilities"), gc.argmax(scores, axis=1).named("digit")]
    function = gc.compile([image], outputs, backend="llvm", name="digits")
    export(folder, function)
    return folder, function, images[1000:1100].astype("float32")


def outcome(page: Any, script: str) -> str:
    """The message of the error that a script throws."""
    said = ran(page, f"try {{ {script} }} catch (error) {{ return `${{error.status}} ${{error.message}}`; }}")
    assert isinstance(said, str), said
    return said


# --- What it computes -------------------------------------------------------------------------------------------------

PREDICT = """
const model = await load();
model.selftest();
const found = images.map((image) => model.run({ image }));
const predictions = found.map(({ probabilities, digit }) => [[...probabilities], Number(digit[0])]);
"""


@pytest.mark.parametrize("wasm_type", [WASM, UNKNOWN])
def test_predictions_are_those_of_python_and_node(browser, digits, wasm_type):
    folder, function, images = digits
    with opened(browser, folder, wasm_type) as page:
        found = ran(page, f"const images = given; {PREDICT} return predictions;", images.tolist())
    script = f"import load from './model.mjs'; const images = {json.dumps(images.tolist())}; {PREDICT}"
    in_node = json.loads(node(folder, f"{script} console.log(JSON.stringify(predictions));"))
    for image, (probabilities, digit), (same, _) in zip(images, found, in_node, strict=True):
        expected, label = function(image[None])
        np.testing.assert_allclose(probabilities, expected[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(probabilities, same, rtol=0, atol=1e-6)
        assert digit == label[0]


@pytest.mark.parametrize(("wasm_type", "streams"), [(WASM, 1), (UNKNOWN, 0), (f"{WASM}; charset=utf-8", 0)])
def test_it_is_compiled_while_it_arrives_where_the_server_knows_it(browser, digits, wasm_type, streams):
    with opened(browser, digits[0], wasm_type) as page:
        assert ran(page, """
            let count = 0;
            const { compileStreaming } = WebAssembly;
            WebAssembly.compileStreaming = (response) => { count += 1; return compileStreaming(response); };
            const model = await load();
            return [count, model.version().startsWith("graphc ")];
        """) == [streams, True]


def test_a_training_step_learns_in_the_page(browser, tmp_path):
    x, t = gc.input("x", (8, 5)), gc.input("t", (8,), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(5, 6, seed=0), gc.nn.Tanh(), gc.nn.Linear(6, 3, seed=1))
    loss = gc.nn.cross_entropy(model(x), t)
    updates = gc.optim.Adam(lr=1e-2).updates(loss, model.parameters())
    step = gc.compile([x, t], loss.named("loss"), updates=updates, backend="llvm", name="step")
    export(tmp_path, step)
    before = [np.ravel(variable.value).tolist() for variable in step._forms.variables]
    xs = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    ts = np.arange(8) % 3
    with opened(browser, tmp_path) as page:
        losses = ran(page, """
            const model = await load();
            const [params, x, t] = given;
            Object.values(model.params).forEach((param, at) =>
              param.set(param instanceof BigInt64Array ? params[at].map(BigInt) : params[at]));
            return Array.from({ length: 20 }, () => model.run({ x, t }).loss[0]);
        """, [before, xs.ravel().tolist(), ts.tolist()])
    np.testing.assert_allclose(losses, [float(step(xs, ts)) for _ in range(20)], rtol=1e-5)


def test_a_worker_runs_it(browser, digits):
    folder, function, images = digits
    (folder / "worker.mjs").write_text(
        "import load from './model.mjs';\n"
        "const model = load();\n"
        "onmessage = async ({ data }) => postMessage((await model).run({ image: data }).digit[0]);\n",
        encoding="utf-8",
    )
    with opened(browser, folder) as page:
        found = ran(page, """
            const worker = new Worker("worker.mjs", { type: "module" });
            const answer = new Promise((resolve, reject) => { worker.onmessage = resolve; worker.onerror = reject; });
            worker.postMessage(new Float32Array(given));
            return Number((await answer).data);
        """, images[0].tolist())
    assert found == function(images[:1])[1][0]


# --- Memory -----------------------------------------------------------------------------------------------------------


def test_a_large_program_grows_its_memory_before_the_first_call(browser, tmp_path):
    x = gc.input("x", (3000, 1000))
    export(tmp_path, gc.compile([x], gc.sum(gc.exp(x) @ gc.transpose(x[:50]), axis=0), backend="llvm", name="large"))
    with opened(browser, tmp_path) as page:
        found = ran(page, """
            const model = await load();
            const x = new Float32Array(3000 * 1000).fill(1);
            const [one, other] = [model.run({ x }).output, model.run({ x }).output];
            return [one.length, one[0], one[49], other[0], one === other];
        """)
    assert found[0] == 50 and found[4] is False
    np.testing.assert_allclose(found[1:4], 3000 * 1000 * np.e, rtol=1e-4)  # 10^6 numbers, added in float32


def test_many_programs_have_their_own_memory(browser, digits, tmp_path):
    x, w = gc.input("x", (3,)), gc.state("w", (3,), init=0.0)
    export(tmp_path, gc.compile([x], (x + w).named("y"), updates={w: w + x}, backend="llvm", name="adding"))
    with opened(browser, tmp_path) as page:
        found = ran(page, """
            const module = await WebAssembly.compile(await (await fetch("model.wasm")).arrayBuffer());
            const models = await Promise.all(Array.from({ length: 50 }, () => load(module)));
            models.forEach((model, at) => { for (let i = 0; i < at; i++) model.run({ x: [1, 2, 3] }); });
            return models.map((model) => [...model.params.w]);
        """)
    assert found == [[at, 2 * at, 3 * at] for at in range(50)]


def test_programs_that_nobody_holds_are_given_back(browser, digits):
    """There is room for a hundred or so at a time, and a self-test takes one more."""
    with opened(browser, digits[0]) as page:
        assert ran(page, """
            const module = await WebAssembly.compile(await (await fetch("model.wasm")).arrayBuffer());
            for (let i = 0; i < 1500; i++) (await load(module)).selftest();
            return true;
        """)


def test_no_room_for_one_more_is_said(browser, digits):
    with opened(browser, digits[0]) as page:
        said = outcome(page, """
            const module = await WebAssembly.compile(await (await fetch("model.wasm")).arrayBuffer());
            const models = [];
            for (;;) models.push(await load(module));
        """)
    assert said.startswith("undefined model: there is no memory for one more: "), said


# --- What is wrong ----------------------------------------------------------------------------------------------------


def test_a_wrong_argument_is_named(browser, tmp_path):
    table, rows = gc.input("table", (4, 3)), gc.input("rows", (2,), dtype="int64")
    keep, shift = gc.input("keep", (2,), dtype="bool"), gc.input("shift", (2,), dtype="int32")
    taken = gc.take(table, rows, axis=0) * gc.reshape(gc.where(keep, 1.0, 0.0), (2, 1))
    function = gc.compile([table, rows, keep, shift], [taken, gc.sum(shift), keep], backend="llvm", name="taken")
    export(tmp_path, function)
    inputs = "table: [...Array(12).keys()].map((i) => i / 2), rows: [3, 0], keep: Uint8Array.of(1, 2), shift: [5, -7]"
    with opened(browser, tmp_path) as page:
        found = ran(page, f"const model = await load(); const found = model.run({{ {inputs} }});"
                          "return [[...found.output0], [...found.output1].map(Number), [...Object.values(found)[2]]];")
        assert found == [[4.5, 5, 5.5, 0, 0.5, 1], [-2], [1, 1]]
        for change, message in {
            "rows: [0]": "undefined model: rows is int64[2], 2 elements, not 1",
            "rows: 3": "undefined model: rows is int64[2], 2 elements in an array, not 3",
            "rows: [1.5, 0]": "undefined model: rows is int64[2], 2 elements; The number 1.5 cannot be converted to a "
                              "BigInt because it is not an integer",
            "rows: [2n ** 63n, 0]": "undefined model: rows is int64[2], 2 elements; 9223372036854775808 does not fit",
            "rows: [4, 0]": "1 model: an index is outside its axis",
            "rows: undefined": "undefined model: the input rows is missing",
            "shift: [0.5, 0]": "undefined model: shift is int32[2], 2 elements; 0.5 does not fit",
            "shift: [2 ** 31, 0]": "undefined model: shift is int32[2], 2 elements; 2147483648 does not fit",
            "table: new BigInt64Array(12)": "undefined model: table is float32[4,3], 12 elements; Cannot mix BigInt "
                                            "and other types, use explicit conversions",
            "toString: [1]": "undefined model has no input toString",
        }.items():
            assert outcome(page, f"const model = await load(); model.run({{ {inputs}, {change} }});") == message


def test_what_is_no_program_is_named(browser, digits, tmp_path):
    folder = digits[0]
    for name in ("model.mjs", "model.wasm"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "text.wasm").write_text("<!doctype html>", encoding="utf-8")
    (tmp_path / "page.html").write_text("<!doctype html>", encoding="utf-8")  # as some servers answer every question
    empty = "Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0)"  # a module without anything
    with opened(browser, tmp_path, complaints=1) as page:
        address = page.url.removesuffix("index.html")
        assert outcome(page, "await load('gone.wasm');") == f"undefined model: {address}gone.wasm: 404 File not found"
        for name in ("text.wasm", "page.html"):
            said = outcome(page, f"await load('{name}');")
            assert said.startswith(f"undefined model: {address}{name} cannot be compiled as WebAssembly: "), said
        said = outcome(page, "await load(new Uint8Array(9));")
        assert said.startswith("undefined model: the bytes cannot be compiled as WebAssembly: "), said
        said = outcome(page, f"await load({empty});")
        assert said == "undefined model: this WebAssembly module is another one"
    with opened(browser, tmp_path, complaints=1) as page:
        said = outcome(page, "await load('http://127.0.0.1:1/model.wasm');")  # where nobody answers
        assert said.startswith("undefined model: http://127.0.0.1:1/model.wasm: "), said


def test_the_selftest_finds_a_damaged_weight(browser, digits, tmp_path):
    folder, function, _ = digits
    (tmp_path / "model.mjs").write_bytes((folder / "model.mjs").read_bytes())
    content = (folder / "model.wasm").read_bytes()
    weights = next(variable.value for variable in function._forms.variables if variable.ndim == 2)[0]
    assert content.count(weights.tobytes()) == 1
    (tmp_path / "model.wasm").write_bytes(content.replace(weights.tobytes(), np.roll(weights, 1).tobytes()))
    with opened(browser, tmp_path) as page:
        said = outcome(page, "(await load()).selftest();")
    assert said.endswith(" model: the self-test computed something else than what was recorded")
