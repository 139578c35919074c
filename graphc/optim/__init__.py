"""Optimisers, written in the language alone."""
