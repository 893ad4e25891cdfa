"""What `featlift doctor` looks at: installation, machine, weights, places, and whether lifting gives what it must."""

from featlift.diagnosis.diagnosis import diagnose
from featlift.diagnosis.row import Row, Status

__all__ = ["Row", "Status", "diagnose"]
