"""Long tables of parameters: a part of them in the short suite, all in the soak."""

import pytest


def every(step, values):
    """Every so many-th value for the short suite; the others are marked for the soak."""
    return [
        value if number % step == 0 else pytest.param(value, marks=pytest.mark.soak)
        for number, value in enumerate(values)
    ]
