"""Equations of graphs: derived once, written as LaTeX, as plain text and as flat NumPy code."""
