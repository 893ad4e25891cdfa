"""Frozen 2D networks by name: a catalogue that imports without torch, safe weights, and where each feature sits."""
