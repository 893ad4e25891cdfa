"""Heads that find objects with an id each: what they learn of a store's features, and what is made of it."""
