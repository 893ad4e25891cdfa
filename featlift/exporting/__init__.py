"""Features as files of other programs: viewers, NumPy, data frames."""

from featlift.exporting.export import Exported, export
from featlift.exporting.parquet import write_parquet
from featlift.exporting.spec import ExportSpec

__all__ = ["ExportSpec", "Exported", "export", "write_parquet"]
