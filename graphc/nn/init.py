"""Initialisers (being written)."""
