"""Measurements of speed and memory. Each prints Markdown; the tests measure nothing of the kind."""
