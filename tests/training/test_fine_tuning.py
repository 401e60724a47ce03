"""Fine-tuning on an own emotion tree: what is carried over, what is learned, what is refused."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_model import CONFIG, OWN_TREE, write_own_data

from mdan_zoo import Predictor, get_hierarchy
from mdan_zoo.cli.main import main
from mdan_zoo.errors import CheckpointError, InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.options import MDANOptions
from mdan_zoo.training import TrainingConfig, fine_tuning_recipe, prepare
from mdan_zoo.training.run import load_model_file
from mdan_zoo.training.state import STATE_FILE
from mdan_zoo.weights.checkpoint import read_identity, save_checkpoint
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import build_network, create_model, list_models


def arguments(model, data, tree, output, *more):
    options = ["--init", model, "--data", data, "--hierarchy", tree, "--output", output]
    return [str(option) for option in ["train", *options, "--workers", 0, *more]]


def command(*options):
    return [sys.executable, "-m", "mdan_zoo", *options]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

# Long enough to be stopped in its midst: 5 epochs of 24 images.
LONG = ("--set", "epochs=5", "--set", "batch_size=2", "--set", "split=all")
STEPS = 5 * 24 // 2


# --- what a network starts from


def test_all_but_the_classifiers_is_carried_over_and_rows_of_equal_classes_are(model):
    theirs = get_hierarchy("mikels8")
    torch.manual_seed(0)
    network = build_network(CONFIG, OWN_TREE)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert load_model_file(network, model) == ["awe", "fear"]
    given, after = load_file(model), network.state_dict()
    for name, value in after.items():
        if "classifier" not in name:
            assert value.equal(given[name]), name
    for key, level in (("levels.0.classifier", 0), ("levels.1.classifier", 1)):
        for row, label in enumerate(OWN_TREE.levels[level]):
            known = label in theirs.levels[level]
            expected = (
                given[f"{key}.weight"][theirs.index(level, label)]
                if known
                else before[f"{key}.weight"][row]
            )
            assert after[f"{key}.weight"][row].equal(expected), label


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models(pretrained=True))
def test_every_released_model_can_be_fine_tuned_on_images_of_any_kind(name, data, tmp_path):
    """Ratings, weights of datasets and the temperature are those of the model's own images."""
    recipe = fine_tuning_recipe(name, ["cached_views=0"])
    assert (recipe.dataset_weights, recipe.temperature) == ("", None)
    run = prepare(TrainingConfig(recipe, data, tmp_path / "run", hierarchy=OWN_TREE))
    assert (run.model.name, run.model.dimensions) == ("run", ())
    network, released = run.network(seed=0), create_model(name, pretrained=True)
    given = released.state_dict()
    for key, value in network.backbone.state_dict().items():
        assert value.equal(given[f"backbone.{key}"]), key


@pytest.mark.parametrize(
    "nested",
    [["awe", "positive", "dull"], {"positive": {"high": ["awe"]}, "dull": {"low": ["dull"]}}],
)
def test_a_network_of_another_depth_starts_from_the_layers_that_both_have(nested, model):
    theirs, ours = get_hierarchy("mikels8"), Hierarchy.from_nested(nested)
    torch.manual_seed(0)
    network = build_network(CONFIG, ours)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert load_model_file(network, model) == ["awe", "positive"]
    given, after = load_file(model), network.state_dict()
    shared = [name for name in after if name in given and "classifier" not in name]
    assert {"backbone.conv1.weight", "reduce.weight", "levels.0.mhcca.query.weight"} <= {*shared}
    for name in shared:
        assert after[name].equal(given[name]), name
    for name in after.keys() - given.keys():
        assert name.startswith("levels.2."), "the third level is new"
        assert after[name].equal(before[name]), name
    for key, level in (("levels.0.classifier", 0), ("global_classifier", -1)):
        for row, label in enumerate(ours.levels[level]):
            known = label in theirs.levels[level]
            origin = theirs.levels[level].index(label) if known else row
            expected = (given if known else before)[f"{key}.bias"][origin]
            assert after[f"{key}.bias"][row].equal(expected), label


def test_a_model_of_another_width_is_refused(model):
    network = build_network(MODELS["mdan_oasis4"], OWN_TREE)
    with pytest.raises(CheckpointError, match="not the network to be trained"):
        load_model_file(network, model)


# --- trainings


@pytest.mark.slow
def test_fine_tuning_learns_the_custom_classes(data, tree, tmp_path, capsys):
    """From the released weights; the result is a file to predict with."""
    output = tmp_path / "feelings4"
    fields = ("epochs=8", "cached_views=4", "batch_size=8", "split=all")
    changes = [part for field in fields for part in ("--set", field)]
    assert main(arguments("mdan_oasis4", data, tree, output, *changes)) == 0
    weights = output / "model.safetensors"
    out, told = capsys.readouterr()
    assert out.strip() == str(weights)
    # Nobody sees a bar in the log of a job.
    line = r"^epoch (\d+) of \d+: loss [\d.]+, [\d.]+ images/s, [\d:]+ left$"
    epochs = re.findall(line, told, re.M)
    assert [int(epoch) for epoch in epochs] == list(range(1, len(epochs) + 1)) != []
    assert f"report: {output / 'training.json'}\n" in told
    config, hierarchy = read_identity(weights)
    assert hierarchy == OWN_TREE
    assert (config.name, config.backbone) == ("feelings4", "mobilenetv2_100")
    predictor = Predictor(checkpoint=weights)
    images = sorted(data.glob("*/*.jpg"))
    found = [prediction.path[-1] for prediction in predictor.stream(images)]
    right = sum(label == image.parent.name for label, image in zip(found, images, strict=True))
    assert right >= 22, "of 24 images that it was trained on"


@pytest.mark.slow
def test_a_model_of_one_level_is_trained_from_one_of_two(model, data, tmp_path, caplog):
    """A flat list of emotions needs no level of parents."""
    tree, output = tmp_path / "tree.toml", tmp_path / "run"
    tree.write_text('name = "flat"\nlevels = [["gloom", "fear", "calm", "awe"]]\n')
    changes = ("--set", "epochs=1", "--set", "batch_size=8")
    assert main(arguments(model, data, tree, output, *changes)) == 0
    told = caplog.text
    assert f"levels of classes: 2 in {model}, 1 in the new model; " in told
    assert "the classifier rows of awe, fear; other weights are new" in told
    prediction = Predictor(checkpoint=output / "model.safetensors").predict(data / "awe" / "0.jpg")
    assert [list(level.scores) for level in prediction.levels] == [["gloom", "fear", "calm", "awe"]]
    assert "## emotion: 4 classes" in (output / "test" / "evaluation.md").read_text()


@pytest.fixture(scope="module")
def undisturbed(model, data, tree, tmp_path_factory):
    """A training that nothing interrupts, in a folder named as the others': that is the model's."""
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    start = command(*arguments(model, data, tree, output, *LONG))
    subprocess.run(start, env=ENVIRONMENT, check=True, capture_output=True)
    return output


@pytest.mark.slow
def test_the_last_unfinished_epoch_is_repeated_after_a_kill(
    undisturbed, model, data, tree, tmp_path
):
    """kill -9 within an epoch; the weights equal an undisturbed training's, bit by bit."""
    output = tmp_path / "run"
    start = command(*arguments(model, data, tree, output, *LONG))
    process = subprocess.Popen(start, env=ENVIRONMENT, stderr=subprocess.PIPE)
    _wait_for(output / STATE_FILE, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the training ended before it could be killed"
    subprocess.run(start, env=ENVIRONMENT, check=True, capture_output=True)
    _same_weights(output, undisturbed)


@pytest.mark.slow
def test_sigterm_keeps_the_step_that_was_reached(undisturbed, model, data, tree, tmp_path):
    output = tmp_path / "run"
    start = command(*arguments(model, data, tree, output, *LONG))
    process = subprocess.Popen(start, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    _wait_for(output / STATE_FILE, process)
    process.terminate()
    _, told = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "run the same command to resume" in told
    reached = torch.load(output / STATE_FILE, weights_only=True)["step"]
    assert 0 < reached < STEPS
    done = subprocess.run(start, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    told = f"resuming the training in {output}, after step {reached}, {STEPS - reached} steps left"
    assert told in done.stderr
    _same_weights(output, undisturbed)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(model, data, tree, tmp_path):
    """With the statistics of BatchNorm frozen: on a CPU each process has its own."""
    changes = ("--set", "epochs=3", "--set", "batch_size=8", "--set", "split=all")
    frozen = ("--set", "freeze_bn=true")
    one, two, other = tmp_path / "one", tmp_path / "two", tmp_path / "other"
    assert main(arguments(model, data, tree, one, *changes, *frozen)) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc_per_node", "2", "-m", "mdan_zoo"]
    done = subprocess.run(
        [*torchrun, *arguments(model, data, tree, two, *changes, *frozen)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(two / "model.safetensors")], "told once"
    assert '"processes": 2' in (two / "training.json").read_text()
    assert main(arguments(model, data, tree, other, *changes, *frozen, "--set", "seed=1")) == 0
    assert _distance(one, two) < 1e-6
    assert _distance(one, other) > 1e-3


@pytest.mark.slow
def test_parts_of_a_step_add_up_to_the_whole(model, data, tree, tmp_path):
    changes = ("--set", "epochs=2", "--set", "batch_size=8", "--set", "split=all")
    frozen = ("--set", "freeze_bn=true")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(arguments(model, data, tree, whole, *changes, *frozen)) == 0
    assert main(arguments(model, data, tree, parts, *changes, *frozen, "--accumulate", "4")) == 0
    assert _distance(whole, parts) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--precision", "bf16", "--workers", "2", "--set", "optimizer=adamw"),
        ("--channels-last", "--set", "balance=loss", "--set", "ema_decay=0.9"),
        ("--set", "balance=sampling", "--set", "max_grad_norm=0.1", "--set", "split=2-fold"),
    ],
    ids=" ".join,
)
def test_options_work_together(options, model, data, tree, tmp_path):
    """Each in a process of its own: Accelerate keeps one precision a process."""
    changes = ("--set", "epochs=1", "--set", "batch_size=8")
    output = tmp_path / "run"
    done = subprocess.run(
        command(*arguments(model, data, tree, output, *changes, *options)),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (output / "model.safetensors").exists()
    assert (output / "log.csv").read_text().count("\n") == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes fp16")
def test_fp16_without_a_gpu_is_refused(model, data, tree, tmp_path, capsys):
    """It would train in float32, and say that it did not."""
    output = tmp_path / "run"
    assert main(arguments(model, data, tree, output, "--precision", "fp16")) == 2
    assert "fp16 needs a GPU; on a CPU use bf16" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.slow
def test_frozen_stages_keep_their_weights(model, data, tree, tmp_path):
    changes = ("--set", "epochs=1", "--set", "batch_size=8", "--set", "frozen_stages=2")
    assert main(arguments(model, data, tree, tmp_path / "run", *changes)) == 0
    before, after = load_file(model), load_file(tmp_path / "run" / "model.safetensors")
    changed = {
        name.split(".")[1]
        for name in before
        if name.startswith("backbone.") and not before[name].equal(after[name])
    }
    assert changed == {"layer3", "layer4"}


# --- what is refused


THREE_LEVELS = Hierarchy.from_nested({"positive": {"high": ["awe"]}, "negative": {"low": ["fear"]}})


@pytest.mark.parametrize(
    ("options", "tree", "changes", "message"),
    [
        ({"semantic_levels": (4, 3)}, THREE_LEVELS, [], r"has 3 levels, .* not \(4, 3\)"),
        ({"heads": (16, 16, 8)}, OWN_TREE, ["start_size=32"], "4, 16, 64 at 32 x 32 pixels"),
        (
            {"branches": "local", "alpha": 1},
            OWN_TREE,
            ["overall_weight=0", "local_weight=0", "global_weight=1"],
            "run has no global branch, so overall_weight and local_weight must not both be 0",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused_before_data_is_read(
    options, tree, changes, message, tmp_path
):
    start = tmp_path / "start.safetensors"
    config = dataclasses.replace(CONFIG, options=MDANOptions(dim=16, **options))
    save_checkpoint(start, build_network(config), config)
    recipe = fine_tuning_recipe(str(start), changes, recipe="mdan_fi8_lite0")
    given = TrainingConfig(recipe, tmp_path / "absent", tmp_path / "run", hierarchy=tree)
    with pytest.raises(InputError, match=message):
        prepare(given)


def test_a_loss_that_explodes_stops_the_training(model, data, tree, tmp_path, capsys):
    changes = ("--set", "epochs=3", "--set", "batch_size=8", "--set", "lr=1e30")
    output = tmp_path / "run"
    assert main(arguments(model, data, tree, output, *changes)) == 2
    told = capsys.readouterr().err
    assert "learning rate may help" in told
    assert "kept" not in told, "the first epoch was not over"
    assert not list(output.glob("*.safetensors"))


@pytest.mark.slow
def test_a_full_disk_leaves_the_previous_state(model, data, tree, tmp_path):
    """A limit on the size of files stands for the disk; the state of a first run is there."""
    output = tmp_path / "run"
    changes = ("--set", "batch_size=8", "--set", "split=all")
    start = arguments(model, data, tree, output, *changes, "--set", "epochs=30")
    process = subprocess.Popen(command(*start), env=ENVIRONMENT, stderr=subprocess.PIPE)
    _wait_for(output / STATE_FILE, process)
    process.kill()
    process.wait()
    before = (output / STATE_FILE).read_bytes()
    limited = f"import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); \
resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, 1000000)); \
from mdan_zoo.cli.main import main; sys.exit(main({start!r}))"
    done = subprocess.run(
        [sys.executable, "-c", limited], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert (output / STATE_FILE).read_bytes() == before
    assert not list(output.glob(".*")), "leftovers"


def test_a_class_that_is_not_in_the_hierarchy_is_reported(model, tree, tmp_path, capsys):
    folder = write_own_data(tmp_path / "data")
    (folder / "gloom").rename(folder / "gloomy")
    assert main(arguments(model, folder, tree, tmp_path / "run")) == 2
    assert "gloomy" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_class_without_an_image_is_reported(model, tree, tmp_path, capsys):
    folder = write_own_data(tmp_path / "data")
    for image in (folder / "calm").iterdir():
        image.unlink()
    assert main(arguments(model, folder, tree, tmp_path / "run")) == 2
    assert "calm" in capsys.readouterr().err


@pytest.mark.parametrize("images", [0, 1])
def test_too_few_images_are_reported(images, model, tree, tmp_path, capsys):
    folder = tmp_path / "data"
    (folder / "awe").mkdir(parents=True)
    for number in range(images):
        Image.new("RGB", (50, 50)).save(folder / "awe" / f"{number}.png")
    assert main(arguments(model, folder, tree, tmp_path / "run")) == 2
    assert "image" in capsys.readouterr().err


def test_a_name_and_a_custom_hierarchy_contradict_each_other(model, data, tree, tmp_path, capsys):
    options = arguments(model, data, tree, tmp_path / "run")
    assert main([options[0], "mdan_fi8", *options[1:]]) == 2
    assert "leave out its name" in capsys.readouterr().err


def _wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def _weights(folder):
    return load_file(folder / "model.safetensors")


def _same_weights(folder, other):
    one, two = _weights(folder), _weights(other)
    assert one.keys() == two.keys()
    assert all(value.equal(two[name]) for name, value in one.items())


def _distance(folder, other):
    one, two = _weights(folder), _weights(other)
    return max(float((one[name].double() - two[name].double()).abs().max()) for name in one)
