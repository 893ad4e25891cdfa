"""Arrays in, numbers out: scores of segmentations and classifications, how far to trust them, what differs."""
