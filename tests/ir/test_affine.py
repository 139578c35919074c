"""Affine rows and maps against brute force over small boxes."""

from __future__ import annotations

import itertools
import subprocess
import sys

import hypothesis.strategies as st
import pytest
from hypothesis import given

from graphc.ir.affine import ZERO, Affine, AffineMap, affine, axis_name, axis_row, identity
from graphc.ir.extent import dimension

N = dimension("N")
small = st.integers(-4, 4)


def rows(rank: int) -> st.SearchStrategy[Affine]:
    terms = st.dictionaries(st.integers(0, rank - 1), small, max_size=rank) if rank else st.just({})
    return st.builds(affine, terms, small)


@st.composite
def maps_and_boxes(draw):
    rank = draw(st.integers(0, 3))
    index_map = AffineMap(rank, tuple(draw(st.lists(rows(rank), max_size=3))))
    domain = tuple(draw(st.lists(st.integers(0, 4), min_size=rank, max_size=rank)))
    return index_map, domain


def at(index_map, point):
    return tuple(row.const + sum(c * point[a] for a, c in row.terms) for row in index_map.rows)


def points(domain):
    return list(itertools.product(*(range(extent) for extent in domain)))


@given(maps_and_boxes(), st.data())
def test_compose(one, data):
    outer, _ = one
    rank = data.draw(st.integers(0, 3))
    inner = AffineMap(rank, tuple(data.draw(rows(rank)) for _ in range(outer.rank)))
    both = outer.compose(inner)
    assert both.rank == rank
    for point in points((3,) * rank):
        assert at(both, point) == at(outer, at(inner, point))


@given(maps_and_boxes())
def test_range_is_the_least_and_greatest_value(one):
    index_map, domain = one
    if 0 in domain:
        return
    values = [at(index_map, point) for point in points(domain)]
    expected = tuple((min(column), max(column)) for column in zip(*values, strict=True))
    assert index_map.range_of(domain) == expected


@given(maps_and_boxes(), st.lists(st.integers(0, 9), min_size=3, max_size=3))
def test_stays_inside(one, extents):
    index_map, domain = one
    shape = tuple(extents[: len(index_map.rows)])
    inside = all(
        0 <= value < extent
        for point in points(domain)
        for value, extent in zip(at(index_map, point), shape, strict=True)
    )
    assert index_map.stays_inside(domain, shape) == inside


@given(maps_and_boxes(), st.permutations([0, 1, 2, 3]))
def test_renumber(one, order):
    index_map, _ = one
    moved = index_map.renumber(4, order)
    for point in points((2,) * 4):
        old = [point[order[axis]] for axis in range(index_map.rank)]
        assert at(moved, point) == at(index_map, old)


@given(rows(3), rows(3), small)
def test_plus(one, other, scale):
    total = one.plus(other, scale)
    for point in points((2, 2, 2)):
        (a,), (b,), (c,) = (at(AffineMap(3, (row,)), point) for row in (one, other, total))
        assert c == a + scale * b


@given(rows(3))
def test_equal_rows_are_one_object(row):
    again = affine(dict(reversed(row.terms)) | {7: 0}, row.const)
    assert again is row and again.digest == row.digest


@pytest.mark.parametrize(
    ("rank", "index_map", "expected"),
    [
        (2, (axis_row(1), axis_row(0)), (1, 0)),
        (3, (axis_row(2),), (2,)),
        (2, (axis_row(0), axis_row(0)), None),
        (2, (affine({0: 2}),), None),
        (2, (affine({0: 1}, 1),), None),
        (2, (ZERO,), None),
        (0, (), ()),
    ],
)
def test_projection(rank, index_map, expected):
    assert AffineMap(rank, index_map).projection == expected


def test_identity():
    assert identity(3).is_identity and identity(0).is_identity
    assert not AffineMap(2, (axis_row(1), axis_row(0))).is_identity
    assert not AffineMap(3, (axis_row(0), axis_row(1))).is_identity
    window = AffineMap(2, (affine({0: 2, 1: 1}),))
    assert window.compose(identity(2)) is window and identity(1).compose(window) is window


@pytest.mark.parametrize(
    ("row", "domain", "extent", "expected"),
    [
        (axis_row(0), (N,), N, True),
        (affine({0: 1}, 1), (N,), N, False),
        (affine({0: 1}, 1), (N - 1,), N, True),
        (affine({0: -1}, N - 1), (N,), N, True),
        (affine({0: 1}, -1), (N,), N, False),
        (affine({0: 2, 1: 1}), (N, 2), 2 * N, True),
        (affine({0: 2, 1: 1}), (N, 3), 2 * N, False),
        (axis_row(0), (N,), dimension("M"), False),
        (Affine((), 0), (N,), N, False),
    ],
)
def test_symbolic_reads(row, domain, extent, expected):
    assert AffineMap(len(domain), (row,)).stays_inside(domain, (extent,)) is expected


def test_evaluate_puts_numbers_in_place_of_dimensions():
    reversed_ = AffineMap(1, (affine({0: -1}, N - 1),))
    assert reversed_.evaluate({"N": 5}) is AffineMap(1, (affine({0: -1}, 4),))
    assert reversed_.range_of((5,)) == (None,)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (affine({0: 2, 1: 1}, -1), "2*i + j - 1"),
        (affine({0: -1}, N - 1), "-i + N - 1"),
        (affine({1: -3}), "-3*j"),
        (ZERO, "0"),
        (affine({}, -2), "-2"),
        (affine({}, N), "N"),
    ],
)
def test_text(row, text):
    assert str(row) == text


def test_many_axes_have_names_of_their_own():
    assert len({axis_name(axis) for axis in range(40)}) == 40


def test_digests_are_the_same_in_every_process():
    code = (
        "from graphc.ir.affine import AffineMap, affine\nfrom graphc.ir.extent import dimension\n"
        "print(AffineMap(2, (affine({0: 2, 1: 1}, dimension('N') - 1),)).digest)"
    )
    found = set()
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        found.add(done.stdout)
    assert len(found) == 1
