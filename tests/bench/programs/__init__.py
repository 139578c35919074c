"""Whole programs: training steps, inference and single expressions, each written in every library that has a row of it.

    problems       what is computed: data, weights, networks, the same for everyone
    table          the rows, with their goals and peers; a new row is a line there
    libraries      which module writes the programs for which library
    in_<library>   the programs as that library's users would write them
    run            one row: everyone's results compared, then everyone timed in turns

A module `in_<library>` has one function, `prepare(problem, threads)`. It converts data and weights, which nobody times,
and returns a function that builds the program; what the library does from there to its first result is what the table
of compiling times (`libraries.Begin`, `libraries.Program`).
"""
