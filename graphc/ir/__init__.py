"""The intermediate representation: what a graph is and what it means.

Grammar
-------
    Graph    ::= output nodes, and everything below them
    Node     ::= Input(name, shape, dtype, kind)                      a leaf: input, param or state
               | Const(array)
               | Generic(domain, shape, out_map, reads, body, reducer)
               | View(node, shape)                                    the same elements, row-major, in another shape
               | Join(Generic, Generic, ...)                          disjoint parts that together are one array
               | Opaque(op, nodes, attributes)                        `graphc.ir.opaque` lists them
               | Opaque("scan", nodes, attributes, Step)              one result of a loop: `graphc.ir.loop`
    Step     ::= leaves of its own, what follows the carried ones, a value that is asked for
    read     ::= (node, map, mode)        mode ::= inside | zero | skip
    map      ::= affine functions of the loop indices, one for each axis of the array that is read or written
    reducer  ::= none | sum | prod | max | min | argmax | argmin
    body     ::= Scalar                                               `graphc.ir.scalar`
    extent   ::= int | polynomial in named dimensions                 `graphc.ir.extent`

Semantics
---------
A Generic visits every point d of the box `domain` and does  out[out_map(d)] (+)= body(read_0(d), read_1(d), ...).

* A read outside its array gives 0 when its mode is `zero`; when it is `skip` the point is not visited at all;
  `inside` is a promise that it does not happen, which the verifier checks where extents are known.
* One licence: where a sum of products (a Contraction) skips points, a backend may add 0 times the other factor there,
  which differs from not visiting the point only when that factor is infinite or NaN.
* A point whose output position lies outside the output is not visited.
* An element that no point writes holds the reducer's identity: 0 for none and sum, 1 for prod, -inf for max and +inf
  for min (for integers the least and the greatest number), -1 for argmax and argmin.
* `none` writes; no element is written twice. The others combine all points that write one element; sum and prod of
  floats may be computed in any fixed order, the same in every run.
* argmax gives the position of the first greatest value, row-major within the axes that the output map does not read;
  argmin the first least. max and min propagate NaN, and for argmax and argmin the first NaN wins.
* select(c, a, b) takes one of two values; masks are selects, never products, so that no 0 * NaN arises.
* Integer ops wrap; floor division and mod round towards minus infinity as in NumPy, and an integer divided by zero
  is 0. A float converted to an integer is truncated towards zero.
* float32 stays float32. NaN and infinities propagate as in NumPy; the sign of a zero is kept by reads, writes and
  products, not by sums.

A loop does its step once for each slice of its arrays, in their order or from the last to the first; what it stacks
stands in the order of the slices. Results of equal loops over the same nodes belong to one loop.

Nodes are interned (`graphc.ir.intern`): structural sharing is common-subexpression elimination, across forward and
backward alike. Inputs are nominal: two of them are never one. Where a node came from stands beside it in
`graphc.ir.origin`.
"""
