"""Dimensions: valence and arousal beside the classes, from training to the report."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
import torch
from command_line import call
from oasis_folder import write_oasis

from mdan_zoo.backbones.pyramid import stages_after
from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.errors import InputError
from mdan_zoo.evaluation import evaluate, find_samples, write_report
from mdan_zoo.inference.formats import to_csv
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.dimensions import Dimension
from mdan_zoo.training import TrainingConfig, prepare, train
from mdan_zoo.training.losses import rating_targets, squared_errors
from mdan_zoo.training.recipe import load_recipe
from mdan_zoo.training.report import read_report
from mdan_zoo.training.run import load_model_file
from mdan_zoo.training.trainer import Trainer
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import build_network, load_network

SCALES = (Dimension("valence", 1, 7), Dimension("arousal", 1, 7))
QUICK = ("cached_views=2", "batch_size=5", "split=80/20")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_oasis(tmp_path_factory.mktemp("data") / "oasis")


@pytest.fixture(scope="module")
def start(tmp_path_factory, random_checkpoint):
    return random_checkpoint


def config(folder, output, start, *changes, dimensions=SCALES, **options):
    recipe = load_recipe("mdan_oasis4", [*QUICK, f"init={start}", *changes])
    return TrainingConfig(recipe, folder, output, dimensions=dimensions, **options)


@pytest.fixture(scope="module")
def trained(folder, start, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "rated"
    return train(config(folder, output, start, "epochs=2"))


@pytest.mark.slow
def test_the_ratings_of_the_training_images_are_learned(folder, start, tmp_path):
    changes = (
        "split=all",
        "epochs=60",
        "lr=0.01",
        "backbone_lr=0",
        "dimension_weight=5",
        "ema_decay=0",
    )
    run = prepare(config(folder, tmp_path / "run", start, *changes))
    network = Trainer(run, range(12)).run()
    maps = [stage[0, :12].float() if stage.numel() else stage for stage in run.data.maps]
    with torch.no_grad():
        maps[3] = stages_after(network.backbone, 3)(maps[2])
        found = network.predict_pyramid(maps).dimensions
    targets = rating_targets(run.samples[:12], SCALES)
    for column, scale in enumerate(SCALES):
        r = torch.corrcoef(torch.stack([found[scale.name], targets[:, column]]))[0, 1]
        assert r > 0.95


@pytest.mark.slow
def test_predictions_have_the_dimensions_with_their_scale(trained, folder):
    predictor = Predictor(checkpoint=trained)
    assert predictor.name == "rated"
    assert predictor.config.dimensions == SCALES
    image = sorted((folder / "images").iterdir())[0]
    prediction = predictor.predict(image)
    assert [(d.name, d.low, d.high) for d in prediction.dimensions] == [
        ("valence", 1, 7),
        ("arousal", 1, 7),
    ]
    valence, arousal = (d.value for d in prediction.dimensions)
    assert f", valence {valence:.2f} (1 to 7), arousal {arousal:.2f} (1 to 7)" in str(prediction)
    values = json.loads(json.dumps(prediction.to_dict()))
    assert values["dimensions"][1] == {"name": "arousal", "value": arousal, "low": 1, "high": 7}
    assert list(values)[-2:] == ["dimensions", "error"]
    raw = predictor.forward([image]).dimensions
    assert raw["valence"].item() == pytest.approx(valence, abs=1e-5)


@pytest.mark.slow
def test_a_failed_image_has_no_ratings_and_its_csv_row_has_all_columns(trained, folder, tmp_path):
    predictor = Predictor(checkpoint=trained)
    (tmp_path / "no.jpg").write_bytes(b"no image")
    image = sorted((folder / "images").iterdir())[0]
    failed, good = predictor.stream([tmp_path / "no.jpg", image])
    assert failed.error is not None
    assert failed.to_dict()["dimensions"] == []
    assert all(math.isnan(d.value) for d in failed.dimensions)
    rows = list(csv.reader(io.StringIO(to_csv([failed, good], predictor.hierarchy, SCALES))))
    assert rows[0][-2:] == ["valence", "arousal"]
    assert rows[1][-2:] == ["", ""]
    assert [float(cell) for cell in rows[2][-2:]] == [d.value for d in good.dimensions]
    assert len({len(row) for row in rows}) == 1


def test_a_model_without_dimensions_is_stored_as_before():
    stored = MODELS["mdan_oasis4"].to_dict()
    assert "dimensions" not in stored
    assert "resize_mode" not in stored["input"]
    rated = ModelConfig("a", "mikels8", "FI", dimensions=SCALES)
    stored = json.loads(json.dumps(rated.to_dict()))
    assert ModelConfig.from_dict(stored) == rated


@pytest.mark.slow
def test_the_report_compares_the_dimensions_with_the_ratings(trained, folder, tmp_path):
    predictor = Predictor(checkpoint=trained)
    samples, source = find_samples("OASIS", folder, predictor.hierarchy)
    evaluation = evaluate(predictor, samples, source=source, resamples=100)
    found = torch.tensor(evaluation.probabilities.dimensions["valence"])
    given = torch.tensor([dict(sample.ratings)["valence"] for sample in samples])
    mae = (found - given).abs().mean().item()
    assert evaluation.score("predicted_valence_mae").value == pytest.approx(mae, abs=1e-5)
    r = torch.corrcoef(torch.stack([found, given]))[0, 1].item()
    assert evaluation.score("predicted_valence_r").value == pytest.approx(r, abs=1e-5)
    write_report(evaluation, tmp_path / "report")
    text = (tmp_path / "report" / "evaluation.md").read_text()
    assert "Pearson's r of the predicted valence" in text
    assert "mean absolute error of the predicted arousal" in text


@pytest.mark.slow
def test_the_head_is_copied_for_dimensions_that_both_models_have(trained):
    config, source = load_network(trained)
    other = (Dimension("arousal", 1, 7), Dimension("dominance", 1, 9))
    hierarchy = source.hierarchy
    network = build_network(MODELS["mdan_oasis4"], hierarchy)
    network.add_dimensions(other)
    before = network.dimension_head.weight.clone()
    load_model_file(network, trained)
    assert network.dimension_head.weight[0].equal(source.dimension_head.weight[1])
    assert network.dimension_head.weight[1].equal(before[1])
    assert config.dimensions == SCALES


def test_missing_ratings_have_no_loss():
    predicted = torch.tensor([[1.0, 2.0], [5.0, 2.0]], requires_grad=True)
    ratings = torch.tensor([[3.0, torch.nan], [torch.nan, torch.nan]])
    value = squared_errors(predicted, ratings, torch.tensor([0.5, 1.0]))
    assert value.item() == pytest.approx(16.0)  # (2 / 0.5) ** 2, one of four ratings
    value.backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    assert (predicted.grad != 0).tolist() == [[True, False], [False, False]]
    none = squared_errors(predicted, torch.full((2, 2), torch.nan), torch.ones(2))
    assert none.item() == 0


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ((Dimension("dominance", 1, 9),), "no image of the dataset has a rating of dominance"),
        (
            (Dimension("valence", 0, 1),),
            r"1 to 7, not .* valence=0:1; .* --dimension valence=1:7$",
        ),
        ((SCALES[0], SCALES[0]), "different names, not valence, valence"),
    ],
)
def test_dimensions_that_do_not_fit_are_reported(folder, start, tmp_path, dimensions, message):
    given = config(folder, tmp_path / "run", start, dimensions=dimensions)
    with pytest.raises(InputError, match=message):
        prepare(given)
    assert not (tmp_path / "run").exists()


def test_ratings_of_a_table_must_be_on_the_scale(folder):
    samples = read_oasis(folder)
    with pytest.raises(
        InputError,
        match=r"lie in 2\.7\.\.5\.9, not .*=3:5; .* --dimension valence=LOW:HIGH$",
    ):
        rating_targets(samples, (Dimension("valence", 3, 5),))


@pytest.mark.parametrize("text", ["valence", "valence=1", "valence=a:b", "valence=1:7:9"])
def test_a_dimension_needs_a_scale(text, folder, tmp_path):
    with pytest.raises(InputError, match=f"NAME=LOW:HIGH, such as valence=1:7, not {text!r}"):
        call(
            "train",
            "flat_oasis4",
            "--data",
            folder,
            "--output",
            tmp_path / "a",
            "--dimension",
            text,
        )
    with pytest.raises(InputError, match="two numbers, the lower one first"):
        Dimension.parse("valence=7:1")


@pytest.mark.slow
def test_the_command_is_reported(trained):
    command = read_report(trained.parent)["command"]
    assert "--dimension valence=1:7 --dimension arousal=1:7" in command
