"""Features as files of other programs: viewers, NumPy, data frames."""

from featlift.exporting.export import Exported, export
from featlift.exporting.parquet import write_parquet
from featlift.exporting.wanted import Wanted

__all__ = ["Exported", "Wanted", "export", "write_parquet"]
