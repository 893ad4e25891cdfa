"""Planes of a volume as people are shown them: their anatomy, and figures of them. Knows no features."""
