"""A network that learns to register: trained on pairs without any labels, it gives a field in one pass."""
