"""Pictures of programs: kernels and buffers, their times, the arena over time."""
