"""Passes: graph to graph, one a file; `pipeline.py` lists them in order."""
