"""What `make bench` measures. Nothing here asserts on time; `test_bench.py` checks the harness itself.

    environment   as many threads and processors for graphc and for its peers
    clock         samples, taken in turns
    peak          what the processor can do: a loop of register-only multiply-adds
    kernels       the table of single kernels, with goals, and graphc's side of it
    peers         the same kernels in PyTorch, JAX and NumPy
    reference     some outputs in float64, so that no wrong kernel is timed
    measure       one line of the table: check, time, compare
    scaling       the table with one thread and with several
    programs      whole programs: training steps, inference, expressions; a folder with a module for each library
    compiling     how long graphc itself takes, and everyone before the first result
    first         the process that measures a first result
    times         one line of the tables of programs and of compiling: times, goal, ratio

Modules of peers are imported when they are asked for, never when a module of this package is.
"""
