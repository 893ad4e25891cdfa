"""Networks that predict labels from features."""
