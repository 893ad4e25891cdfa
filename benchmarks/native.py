"""Scans with masks as raw data of nnU-Net, for the study of native 3D encoders (studies/native.toml).

    python -m benchmarks.native ../shared/data/hippocampus nnunet/

Takes the cases of the split train in split.csv and says the commands that plan and train on them: one epoch of 250
iterations with nnU-Net's own trainer `nnUNetTrainer_1epoch`.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

DATASET = "Dataset004_Hippocampus"
LABELS = {"background": 0, "anterior": 1, "posterior": 2}

COMMANDS = """cd {folder}
export nnUNet_raw=$PWD/raw nnUNet_preprocessed=$PWD/preprocessed nnUNet_results=$PWD/results
nnUNetv2_plan_and_preprocess -d 4 -c 3d_fullres
nnUNetv2_train 4 3d_fullres all -tr nnUNetTrainer_1epoch -device {device}"""


def write_raw(data: Path, folder: Path) -> int:
    """Link the training scans and their masks where nnU-Net looks for them; how many they are."""
    with (data / "split.csv").open(newline="") as file:
        ids = [row["id"] for row in csv.DictReader(file) if row["split"] == "train"]
    for source, kind, end in (("images", "imagesTr", "_0000"), ("labels", "labelsTr", "")):
        (folder / kind).mkdir(parents=True)
        for case_id in ids:
            (folder / kind / f"{case_id}{end}.nii.gz").symlink_to((data / source / f"{case_id}.nii.gz").resolve())
    about = {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": len(ids), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(about, indent=2) + "\n")
    return len(ids)


def main() -> None:
    """Write the raw data, print the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with images, labels and split.csv")
    parser.add_argument("folder", type=Path, help="for nnU-Net's raw, preprocessed and results")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    count = write_raw(options.data, options.folder / "raw" / DATASET)
    print(f"# {count} training cases")
    print(COMMANDS.format(folder=options.folder, device=options.device))


if __name__ == "__main__":
    main()
