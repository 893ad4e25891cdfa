"""Options that take one of a few words: what is wrong is told at once, and what is right is what the functions take."""

import subprocess
import sys
from typing import get_args, get_type_hints

import pytest

from featlift import open_store
from featlift.backbones.positions import PositionResize
from featlift.backbones.precision import PrecisionChoice
from featlift.backbones.rope import RopePeriods
from featlift.cli import choices
from featlift.config import words as words_of
from featlift.embedding.embed import DenseFormat
from featlift.evaluation.classification.embeddings import Input
from featlift.evaluation.classification.labels import SPLITS
from featlift.evaluation.classification.protocol import BagOf, Name, Pooling
from featlift.evaluation.dense.protocol import Weighting
from featlift.evaluation.featdice.protocol import Protocol
from featlift.evaluation.featdice.segmentation import Centre
from featlift.exporting.picture import Grid
from featlift.exporting.spec import Format
from featlift.finetuning.plan import Adapt, SlicePooling, TaskName, Tokens
from featlift.lifting.lifted import Mode
from featlift.lifting.planes import Plane
from featlift.lifting.tokens import TokenPooling
from featlift.pictures.figure import ANIMATIONS, FORMATS
from featlift.pictures.fitting import Foreground
from featlift.pretraining.losses import Edges
from featlift.pretraining.plan import Size
from featlift.registration.affine import AffineStage
from featlift.registration.applying import LabelInterpolation
from featlift.registration.network import plan
from featlift.registration.settings import Compared
from featlift.results.differences import Over
from featlift.segmentation import HEADS
from featlift.segmentation.inference.grids import Voxels
from featlift.segmentation.instances.scoring import Convention, Metric
from featlift.segmentation.instances.settings import Agglomeration, Offsets
from featlift.segmentation.networks.dino3dra import ABLATIONS
from featlift.segmentation.objects.prediction import Format as ObjectFormat
from featlift.segmentation.plan import Features
from featlift.store.cells import Nearest
from featlift.store.layout import SAVED
from featlift.store.output_spec import Dtype, Embedding
from featlift.training.precision import Precision
from featlift.volumes.orientation import Orientation
from featlift.volumes.preparation import Resampling
from tests.support.scans import patch_mean_options, write_scan

OPTIONS = {
    "extract": "rope-periods precision mode cycle token-pooling orient save save-dtype embedding engine",
    "check": "mode orient save save-dtype precision",
    "featdice": "protocol centre nearest",
    "knn": "input",
    "probe": "protocol input bag pooling weighting",
    "retrieve": "input",
    "compare": "over to",
    "pca": "formats sweep foreground",
    "export": "to on",
    "register run": "features mode orient",
    "segment train": "head task offsets agglomeration features without precision",
    "segment predict": "split agglomeration format precision",
    "segment score": "convention",
}


def test_a_wrong_word_is_told_before_torch_is_imported():
    """In one line with the words there are, exit code 2."""
    calls = [[*command.split(), f"--{name}", "wrong"] for command, names in OPTIONS.items() for name in names.split()]
    code = f"""if True:
        import contextlib, io, sys
        from featlift.cli.main import main
        for call in {calls}:
            sys.argv = ["featlift", *call]
            told = io.StringIO()
            with contextlib.redirect_stderr(told):
                try:
                    main()
                except SystemExit as stop:
                    assert stop.code == 2, call
            assert told.getvalue().startswith(f"featlift: {{call[-2]}} 'wrong': choose one of "), told.getvalue()
            assert told.getvalue().count("\\n") == 1, told.getvalue()
            assert "torch" not in sys.modules, call
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_shows_the_words(featlift, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    told = featlift("extract", "--help").stdout
    for words in (words_of.MODES, words_of.PRECISIONS, words_of.ORIENTATIONS, words_of.EMBEDDINGS, words_of.SAVED):
        assert "|".join(words) in told


def test_words_in_any_case_and_several_of_them(featlift, tmp_path):
    """They arrive as the functions spell them; what is wrong among several is named, with the nearest word there is."""
    write_scan(tmp_path / "a.nii.gz")
    options = ("--orient", "NATIVE", "--save", "Dense, scan", "--cycle", "hw, dw", "--save-dtype", " float32")
    done = featlift("extract", "a.nii.gz", *patch_mean_options(tmp_path, patch=4), *options)
    assert done.returncode == 0, done.stderr
    recipe = open_store(tmp_path / "features.zarr").recipe
    assert (recipe["orient"], recipe["save"], recipe["dtype"]) == ("native", ["scan", "dense"], "float32")
    assert recipe["cycle"] == "HW,DW"
    told = featlift("extract", "a.nii.gz", "--save", "scan,dens").stderr
    assert told == f"featlift: --save 'dens': choose one of {', '.join(words_of.SAVED)}; did you mean dense?\n"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (["extract"], "Missing argument 'inputs'; `featlift extract --help` says what there is"),
        (["extract", "a", "--limit", "0"], "--limit: "),
        (["extract", "a", "--limit", "few"], "--limit: "),
        (["extract", "a", "--colour"], "No such option: --colour"),
        (["export", "a"], "Missing option '--to'; `featlift export --help` says what there is"),
        (["segment", "trian"], "No such command 'trian'. Did you mean 'train'; `featlift segment --help`"),
        (["check", "a", "--csv"], "Option '--csv' requires an argument"),
    ],
)
def test_a_call_that_cannot_be_parsed_is_one_line(featlift, call, says):
    done = featlift(*call)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"featlift: {says}")
    assert done.stderr.count("\n") == 1


def test_without_a_command_the_help_is_shown(featlift):
    for call, says in (([], "extract"), (["segment"], "predict")):
        done = featlift(*call)
        assert says in done.stdout
        assert not done.stderr


def test_the_words_are_those_of_the_functions():
    assert set(words_of.PLANES) == set(get_args(Plane)) - {"DHW"}  # which is no plane of a cycle
    assert set(choices.EXPORTS) == {*get_args(Format), "parquet"}
    for words, theirs in (
        (choices.DENSE_FORMATS, get_args(DenseFormat)),
        (words_of.LIFTED_MODES, get_args(Mode)),
        (words_of.TOKEN_POOLINGS, get_args(TokenPooling)),
        (words_of.ROPE_PERIODS, get_args(RopePeriods)),
        (words_of.PRECISIONS, get_args(PrecisionChoice)),
        (words_of.POSITION_RESIZES, get_args(PositionResize)),
        (words_of.ORIENTATIONS, get_args(Orientation)),
        (words_of.RESAMPLINGS, get_args(Resampling)),
        (words_of.SAVED, SAVED),
        (words_of.DTYPES, get_args(Dtype)),
        (words_of.EMBEDDINGS, get_args(Embedding)),
        (choices.FEATDICE_PROTOCOLS, get_args(get_type_hints(Protocol)["name"])),
        (choices.CENTRES, get_args(Centre)),
        (choices.NEAREST, get_args(Nearest)),
        (choices.INPUTS, get_args(Input)),
        (choices.PROBES, get_args(Name)),
        (choices.BAGS, get_args(BagOf)),
        (choices.POOLINGS, get_args(Pooling)),
        (choices.WEIGHTINGS, get_args(Weighting)),
        (choices.PAIRED, get_args(Over)),
        (choices.GRIDS, get_args(Grid)),
        (choices.PICTURES, FORMATS),
        (choices.ANIMATIONS, ANIMATIONS),
        (choices.FOREGROUNDS, get_args(Foreground)),
        (choices.HEADS, HEADS),
        (choices.PREDICTED, get_args(Voxels)),
        (choices.HEAD_FEATURES, get_args(Features)),
        (choices.HEAD_PRECISIONS, get_args(Precision)),
        (choices.FINETUNE_TASKS, get_args(TaskName)),
        (choices.COMPARED, get_args(Compared)),
        (choices.LABEL_INTERPOLATIONS, get_args(LabelInterpolation)),
        (choices.REGISTRATION_INPUTS, get_args(plan.Input)),
        (choices.REGISTRATION_LOSSES, get_args(plan.Loss)),
        (choices.AFFINE, get_args(AffineStage)),
        (choices.ADAPTS, get_args(Adapt)),
        (choices.SLICE_POOLINGS, get_args(SlicePooling)),
        (choices.TOKENS, get_args(Tokens)),
        (choices.ABLATIONS, ABLATIONS),
        (choices.OFFSETS, get_args(Offsets)),
        (choices.AGGLOMERATIONS, get_args(Agglomeration)),
        (choices.OBJECT_FORMATS, get_args(ObjectFormat)),
        (choices.SPLITS, SPLITS),
        (choices.ENCODERS, get_args(Size)),
        (choices.EDGES, get_args(Edges)),
        (choices.INSTANCE_METRICS, get_args(Metric)),
        (choices.CONVENTIONS, get_args(Convention)),
    ):
        assert set(words) == set(theirs)
