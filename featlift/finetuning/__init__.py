"""Lifted networks trained on scans with labels or masks: whole, by LoRA, or their heads alone."""
