"""A page for a whole cohort."""

from featlift.pictures.report.cohort import Cohort, gather
from featlift.pictures.report.writing import write_report

__all__ = ["Cohort", "gather", "write_report"]
