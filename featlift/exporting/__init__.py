"""Features as files of other programs: viewers, NumPy, data frames."""

from featlift.exporting.export import Exported, check_is_ours, export
from featlift.exporting.npz import write_npz
from featlift.exporting.parquet import write_parquet
from featlift.exporting.spec import ExportSpec

__all__ = ["ExportSpec", "Exported", "check_is_ours", "export", "write_npz", "write_parquet"]
