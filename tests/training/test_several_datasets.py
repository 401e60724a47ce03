"""Training on several datasets whose labels reach different levels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from command_line import call
from dataset_trees import write_image
from oasis_folder import write_oasis

from mdan_zoo.cli.train import _by_dataset
from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.datasets.registry import read_dataset
from mdan_zoo.datasets.splits import Split
from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.models.dimensions import Dimension
from mdan_zoo.training import TrainingConfig, prepare, train
from mdan_zoo.training.dataset import Steps
from mdan_zoo.training.losses import cross_entropy, image_weights, level_targets, sample_targets
from mdan_zoo.training.recipe import Recipe, load_recipe
from mdan_zoo.training.report import read_report, summarise
from mdan_zoo.training.state import STATE_FILE
from mdan_zoo.training.trainer import Trainer
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import load_network

TREE = get_hierarchy("mikels8")
BACKBONE = "test_efficientnet"
FI_IMAGES = 4 * len(TREE.leaves)
OASIS_IMAGES = 12


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    fi = tmp_path_factory.mktemp("data") / "fi"
    for leaf in TREE.leaves:
        for number in range(4):
            write_image(fi / "emotion_dataset" / leaf / f"{number}.jpg")
    return {"FI": fi, "OASIS": write_oasis(fi.parent / "oasis")}


@pytest.fixture(scope="module")
def backbone_file(tmp_path_factory):
    import timm

    path = tmp_path_factory.mktemp("backbone") / "backbone.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model(BACKBONE).state_dict(), path)
    return path


def config(folders, output, backbone_file, *changes, **options):
    recipe = load_recipe("mdan_fi8", ["epochs=2", "batch_size=8", "label_std_scale=1", *changes])
    options = {"workers": 0, "size": 64, "resize_mode": "squash"} | options
    return TrainingConfig(
        recipe, folders, output, backbone=BACKBONE, backbone_weights=backbone_file, **options
    )


def test_targets_reach_the_level_of_the_label(folders):
    samples = read_dataset("FI", folders["FI"]) + read_dataset("OASIS", folders["OASIS"], TREE)
    recipe = Recipe("m", label_std_scale=1.0, label_smoothing=0.2)
    polarity, emotion = sample_targets(samples, TREE, recipe)
    torch.testing.assert_close(polarity.sum(dim=1), torch.ones(FI_IMAGES + OASIS_IMAGES))
    assert emotion[FI_IMAGES:].eq(0).all()
    label = samples[0].labels
    assert emotion[0, label[-1]] == pytest.approx(0.8 + 0.2 / 8)
    assert polarity[0, label[0]] == pytest.approx(0.8 + 0.1)
    # Votes of raters are not smoothed.
    votes = torch.tensor([sample.distribution for sample in samples[FI_IMAGES:]])
    torch.testing.assert_close(polarity[FI_IMAGES:], votes)
    quadrants = [sample.distribution for sample in read_oasis(folders["OASIS"])]
    positive = torch.tensor(quadrants)[:, 2:].sum(dim=1)
    torch.testing.assert_close(votes[:, TREE.levels[0].index("positive")], positive)


def test_the_loss_of_an_image_is_the_mean_over_its_levels():
    torch.manual_seed(0)
    predicted = [torch.randn(3, size).log_softmax(dim=1) for size in TREE.sizes]
    full = level_targets(torch.eye(8)[:2], TREE)
    coarse = level_targets(torch.tensor([[0.3, 0.7]]), TREE, 0)
    targets = [torch.cat(pair) for pair in zip(full, coarse, strict=True)]
    weights = image_weights(targets)
    assert weights is not None
    losses = [-(t * p).sum(dim=1) for t, p in zip(targets, predicted, strict=True)]
    expected = torch.stack([*(losses[0] + losses[1])[:2] / 2, losses[0][2]]).mean()
    torch.testing.assert_close(cross_entropy(predicted, targets, weights), expected)
    assert image_weights(full) is None
    balanced = image_weights(targets, balance=True)
    assert balanced is not None
    torch.testing.assert_close(balanced, torch.tensor([1.0, 1.0, 2.0]))


def test_datasets_are_mixed_in_proportion(folders, backbone_file, tmp_path):
    run = prepare(
        config(
            folders, tmp_path / "run", backbone_file, "split=all", "dataset_weights=FI=1,OASIS=1"
        )
    )
    everything = range(FI_IMAGES + OASIS_IMAGES)
    shares = run.sampling_shares(everything)
    assert [count for count, _ in shares] == [FI_IMAGES, FI_IMAGES]
    recipe = Recipe("m", batch_size=8, epochs=3)
    steps = list(Steps(everything, recipe, shares=shares))
    assert len(steps) == 3 * 2 * FI_IMAGES // 8
    keys = [key for step in steps for key in step]
    assert len(set(keys)) == len(keys), "a repeated image has another crop"
    for epoch in range(3):
        inside = keys[epoch * 2 * FI_IMAGES : (epoch + 1) * 2 * FI_IMAGES]
        counts = Counter(index for _, index in inside)
        assert all(counts[index] == 1 for index in range(FI_IMAGES))
        repeated = [counts[index] for index in range(FI_IMAGES, FI_IMAGES + OASIS_IMAGES)]
        assert set(repeated) <= {2, 3}
        assert sum(repeated) == FI_IMAGES
        assert {number % 3 for number, _ in inside} == {epoch}
    assert list(Steps(everything, recipe, start=5, shares=shares)) == steps[5:]


@pytest.fixture(scope="module")
def trained(folders, backbone_file, tmp_path_factory):
    """The output of a run by the command."""
    output = tmp_path_factory.mktemp("runs") / "joint"
    data = [word for name, path in folders.items() for word in ("--data", f"{name}={path}")]
    assert call("train", "mdan_fi8", *data, *options(output, backbone_file)) == 0
    return output


def options(output: Path, backbone_file: Path) -> list[str]:
    changes = ["epochs=1", "batch_size=8", "split=80/20", "label_std_scale=1"]
    changes += ["dataset_weights=FI=3,OASIS=1", "label_smoothing=0.1"]
    return [
        *(
            "--output",
            str(output),
            "--backbone",
            BACKBONE,
            "--backbone-weights",
            str(backbone_file),
        ),
        *("--size", "64", "--resize-mode", "squash", "--workers", "0"),
        *("--dimension", "valence=1:7"),
        *(word for change in changes for word in ("--set", change)),
    ]


@pytest.mark.slow
def test_every_dataset_has_its_split_and_test(trained, folders):
    report = read_report(trained)
    assert report["dataset"] == "FI+OASIS"
    splits = {name: Split.load(trained / f"split_{name}.tsv") for name in folders}
    assert {name: split["split_sha256"] for name, split in report["splits"].items()} == {
        name: split.sha256 for name, split in splits.items()
    }
    assert report["images"] == sum(len(split.images("train")) for split in splits.values())
    assert "--data FI=FOLDER --data OASIS=FOLDER" in report["command"]
    assert "--set dataset_weights=FI=3,OASIS=1" in report["command"]
    assert set(report["test"]["FI"]["accuracy"]) == {"polarity", "emotion"}
    assert set(report["test"]["OASIS"]["accuracy"]) == {"polarity"}
    for name, split in splits.items():
        assert report["test"][name]["images"] == len(split.images("test"))
        assert report["test"][name]["trained_on"] == 0
        assert (trained / "test" / name / "evaluation.json").exists()
    accuracy = report["test"]["OASIS"]["accuracy"]["polarity"]
    assert summarise(trained).startswith("test accuracy: FI polarity 0.")
    assert f"OASIS polarity {accuracy:.3f}; report: {trained / 'test'}" in summarise(trained)
    listed = (trained / "trained_on.txt").read_text().splitlines()[1:]
    assert len(listed) == report["images"]
    names = {line.partition("  ")[2] for line in listed}
    assert {name.partition("/")[0] for name in names} == {"emotion_dataset", "images"}


@pytest.mark.slow
def test_the_model_predicts_emotions_and_ratings(trained):
    found, network = load_network(trained / "model.safetensors")
    assert (found.name, found.hierarchy, found.dataset) == ("joint", "mikels8", "FI+OASIS")
    assert network.dimensions == (Dimension("valence", 1, 7),)
    with pytest.raises(InputError, match="several datasets; give --dataset FI or --dataset OASIS"):
        call("evaluate", trained / "model.safetensors", "--data", trained)


@pytest.mark.slow
def test_evaluate_finds_the_split_of_each_dataset(trained, folders, capsys):
    words = ("--dataset", "OASIS", "--data", folders["OASIS"], "--split", "test")
    assert call("evaluate", trained / "model.safetensors", *words, "--bootstrap", "100") == 0
    expected = read_report(trained)["test"]["OASIS"]["images"]
    assert f"| images | {expected}" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_run_is_resumed_exactly(folders, backbone_file, tmp_path):
    changes = ("dataset_weights=FI=2,OASIS=1", "split=all")
    whole, parts = (
        prepare(config(folders, tmp_path / name, backbone_file, *changes)) for name in "ab"
    )
    everything = range(FI_IMAGES + OASIS_IMAGES)
    expected = Trainer(whole, everything, folder=make(tmp_path / "a")).run().state_dict()
    first = Trainer(parts, everything, folder=make(tmp_path / "b"))
    end = first._end_epoch
    first._end_epoch = lambda *given, **more: (end(*given, **more), first._save(), 1 / 0)  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        first.run()
    assert (tmp_path / "b" / STATE_FILE).exists()
    found = Trainer(parts, everything, folder=tmp_path / "b").run().state_dict()
    for name, value in expected.items():
        assert value.equal(found[name]), name


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "FI=a", "--data", "b"], "several times must be NAME=PATH .* not 'b'"),
        (["--data", "FI=a", "--data", "OASI=b"], "not 'OASI=b'; did you mean 'OASIS'"),
        (["--data", "FI=a", "--data", "FI=b"], "--data names a dataset twice: FI=a FI=b"),
        (
            ["--data", "FI={FI}", "--data", "OASIS={OASIS}", "--split", "x.tsv"],
            "several datasets need --split FI=FILE --split OASIS=FILE, not --split x.tsv",
        ),
        (
            ["--data", "FI={FI}", "--split", "OASIS=x.tsv"],
            "--split OASIS=x.tsv is for OASIS, which has no --data",
        ),
        (
            ["--data", "FI={FI}", "--data", "OASIS={OASIS}", "--set", "dataset_weights=FI=1"],
            "dataset_weights=FI=1 must name the datasets FI, OASIS",
        ),
        (["--data", "FI={FI}", "--dataset", "FI"], "without dataset='FI'"),
    ],
)
def test_wrong_datasets_are_refused(words, message, folders, backbone_file, tmp_path):
    words = [word.format(**folders) for word in words]
    weights = ("--backbone", BACKBONE, "--backbone-weights", backbone_file)
    with pytest.raises(InputError, match=message):
        call("train", "mdan_fi8", *words, "--output", tmp_path / "run", *weights, "--size", 64)
    assert not (tmp_path / "run").exists()


def test_a_folder_may_have_the_name_of_a_dataset():
    assert _by_dataset("--data", ["FI"]) == Path("FI")
    assert _by_dataset("--data", ["FI=x"]) == {"FI": Path("x")}
    with pytest.raises(InputError, match="not 'OASIS='"):
        _by_dataset("--data", ["FI=x", "OASIS="])


def test_ratings_on_another_scale_are_refused(folders, backbone_file, tmp_path):
    dimensions = (Dimension("valence", 1, 9),)
    with pytest.raises(InputError, match=r"OASIS are on the scale 1 to 7, not on .* valence=1:9"):
        prepare(config(folders, tmp_path / "run", backbone_file, dimensions=dimensions))


def test_a_model_of_several_datasets_is_named_after_its_output(folders, tmp_path):
    recipe = load_recipe("mdan_fi8")
    with pytest.raises(InputError, match="other datasets is named after its output folder"):
        prepare(TrainingConfig(recipe, folders, tmp_path / "mdan_fi8"))


JOINT_MODELS = pytest.mark.parametrize("name", ["mdan_fi8_lite0", "flat_fi8_lite0"])


@pytest.fixture(scope="module")
def lite0_file(tmp_path_factory):
    import timm

    path = tmp_path_factory.mktemp("backbone") / "lite0.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), path)
    return path


@JOINT_MODELS
@pytest.mark.parametrize("names", [("FI", "OASIS"), ("OASIS", "FI")])
def test_the_registered_models_of_two_datasets_keep_their_names(
    name, names, folders, lite0_file, tmp_path
):
    recipe, data = load_recipe(name), {dataset: folders[dataset] for dataset in names}
    assert (recipe.split, recipe.dataset_weights) == ("all", "FI=3,OASIS=1")
    run = prepare(TrainingConfig(recipe, data, tmp_path / "run", backbone_weights=lite0_file))
    assert run.model == MODELS[name]
    assert [source.name for source in run.sources] == list(names)
    assert len(run.samples) == FI_IMAGES + OASIS_IMAGES


@JOINT_MODELS
def test_their_recipes_need_both_datasets_or_no_weights(name, folders, lite0_file, tmp_path):
    weights = ("--backbone-weights", lite0_file, "--output", tmp_path / "run")
    with pytest.raises(InputError, match="several datasets; give --data FI=DIR --data OASIS=DIR"):
        call("train", name, "--data", folders["FI"], *weights)
    with pytest.raises(InputError, match=r"FI=3,OASIS=1 must name the datasets FI: .*weights="):
        call("train", name, "--data", f"FI={folders['FI']}", *weights)
    assert not (tmp_path / "run").exists()


@JOINT_MODELS
def test_on_one_dataset_the_model_gets_another_name_and_the_ratings_there_are(
    name, folders, lite0_file, tmp_path, caplog
):
    recipe = load_recipe(name, ["dataset_weights="])
    for dataset, rated in (("FI", ()), ("OASIS", MODELS[name].dimensions)):
        data, output = {dataset: folders[dataset]}, tmp_path / f"only_{dataset}"
        run = prepare(TrainingConfig(recipe, data, output, backbone_weights=lite0_file))
        found = (run.model.name, run.model.dataset, run.model.dimensions)
        assert found == (output.name, dataset, rated)
        # The same with --dataset
        same = prepare(
            TrainingConfig(
                recipe, folders[dataset], output, dataset=dataset, backbone_weights=lite0_file
            )
        )
        assert same.model == run.model
    message = "no image has a rating of valence, arousal: the new model does not predict it"
    assert [text for text in caplog.messages if "rating" in text] == [message] * 2


@pytest.mark.slow
def test_steps_are_counted_with_the_weights(folders, backbone_file, tmp_path, caplog):
    changes = (
        "split=all",
        "dataset_weights=FI=1,OASIS=1",
        "epochs=1",
        "min_steps=9",
        "batch_size=8",
    )
    train(config(folders, tmp_path / "run", backbone_file, *changes))
    assert "training for 2 epochs instead of 1, because 64 images need them" in caplog.text
    report = read_report(tmp_path / "run")
    assert len(report["history"]) == 2
    assert {name: split["images"] for name, split in report["splits"].items()} == {
        "FI": FI_IMAGES,
        "OASIS": OASIS_IMAGES,
    }


@pytest.mark.slow
def test_folds_are_combined_and_a_fixed_validation_part_stays_out(folders, backbone_file, tmp_path):
    names = [sample.image.name for sample in read_dataset("OASIS", folders["OASIS"])]
    parts = {"train": names[:10], "val": names[10:]}
    Split.from_parts("OASIS", "by hand", "images", parts).save(tmp_path / "oasis.tsv")
    split = {"OASIS": tmp_path / "oasis.tsv"}
    output = tmp_path / "run"
    changes = ("split=2-fold", "epochs=1")
    train(config(folders, output, backbone_file, *changes, split=split))
    report = read_report(output)
    assert report["images"] == FI_IMAGES + 10
    assert set(report["cross_validation"]) == {"FI"}
    assert len(report["cross_validation"]["FI"]["accuracy"]["emotion"]["folds"]) == 2
    assert read_report(output / "fold_0")["images"] == FI_IMAGES // 2 + 10


def test_labels_at_a_coarse_level_alone_give_no_priors(folders, backbone_file, tmp_path):
    changes = ("split=all", "init_bias_from_priors=true", "epochs=1")
    run = prepare(config({"OASIS": folders["OASIS"]}, tmp_path / "run", backbone_file, *changes))
    trained = Trainer(run, range(OASIS_IMAGES)).run()
    assert all(value.isfinite().all() for value in trained.state_dict().values())


@pytest.mark.parametrize("weights", ["FI", "FI=0", "FI=x", "FI=1,OASIS=-1", "FI=inf"])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(InputError, match="positive numbers by dataset, such as FI=3,OASIS=1, not"):
        Recipe("m", dataset_weights=weights)


def test_datasets_with_different_kinds_of_split_are_refused(folders, backbone_file, tmp_path):
    samples = read_dataset("OASIS", folders["OASIS"])
    names = [sample.image.name for sample in samples]
    Split.from_parts("OASIS", "halves", "images", {"0": names[:6], "1": names[6:]}).save(
        tmp_path / "oasis.tsv"
    )
    with pytest.raises(InputError, match=r"train and test parts, or equal folds, not FI: 80/20"):
        prepare(
            config(
                folders,
                tmp_path / "run",
                backbone_file,
                "split=80/20",
                split={"OASIS": tmp_path / "oasis.tsv"},
            )
        )
