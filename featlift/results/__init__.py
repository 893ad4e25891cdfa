"""Results as files, side by side, and what two of them differ by."""
