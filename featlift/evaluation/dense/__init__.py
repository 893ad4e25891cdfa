"""The dense probe: a linear classifier of feature cells, trained on some cases and scored on others."""
