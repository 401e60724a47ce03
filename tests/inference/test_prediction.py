"""Reading a path of emotions from probabilities."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import pickle
import random

import pytest

from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.builtin import get_hierarchy, list_hierarchies
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.prediction import LevelPrediction, Prediction, pick_classes

TREE = get_hierarchy("circumplex4")  # negative: gloomy, distressed; positive: serene, excited
CHAINS = Hierarchy.from_nested({name: {name: [name]} for name in ("a", "b", "c")})

OVERALL = ((0.6, 0.4), (0.1, 0.1, 0.7, 0.1))  # negative, but serene
LOCAL = ((0.9, 0.1), (0.2, 0.6, 0.1, 0.1))
GLOBAL = ((0.2, 0.8), (0.1, 0.1, 0.3, 0.5))


def prediction(**changes) -> Prediction:
    probabilities = {"overall": OVERALL, "local": LOCAL, "global": GLOBAL}
    values = {"image": "a.jpg", "model": "m", "hierarchy": TREE, "probabilities": probabilities}
    return Prediction(**{**values, **changes})


def failed(**changes) -> Prediction:
    return prediction(probabilities={}, error="it is empty", **changes)


def random_levels(tree: Hierarchy, seed: int) -> list[list[float]]:
    generator = random.Random(seed)
    levels = []
    for size in tree.sizes:
        weights = [generator.random() ** 3 for _ in range(size)]
        levels.append([weight / sum(weights) for weight in weights])
    return levels


def test_consistent_is_the_path_with_the_highest_product():
    read = prediction()
    assert read.path == ("positive", "serene")  # 0.4 * 0.7 > 0.6 * 0.1
    assert [level.score for level in read.levels] == [0.4, 0.7]


def test_independent_takes_every_level_by_itself():
    read = prediction(decode="independent")
    assert read.path == ("negative", "serene")
    assert [level.score for level in read.levels] == [0.6, 0.7]


@pytest.mark.parametrize("name", list_hierarchies())
def test_consistent_decoding_against_every_path_tried(name):
    tree = get_hierarchy(name)
    differed = 0
    for seed in range(30):
        levels = random_levels(tree, seed)
        products = [
            math.prod(level[k] for level, k in zip(levels, path, strict=True))
            for path in tree.leaf_paths
        ]
        expected = tree.leaf_paths[products.index(max(products))]
        assert pick_classes(tree, levels, "consistent") == expected
        independent = pick_classes(tree, levels, "independent")
        assert [level[k] for level, k in zip(levels, independent, strict=True)] == [
            max(level) for level in levels
        ]
        differed += independent != expected
    # Or the two would not have been told apart; with one level there is no difference.
    assert (differed > 0) == (tree.depth > 1)


@pytest.mark.parametrize("decode", ["consistent", "independent"])
def test_of_equal_classes_the_first_is_taken(decode):
    assert pick_classes(TREE, [[0.5, 0.5], [0.25] * 4], decode) == (0, 0)
    assert pick_classes(TREE, [[0.3, 0.7], [0.1, 0.1, 0.4, 0.4]], decode) == (1, 2)


def test_equal_factors_tie_in_any_order():
    # Added from left to right, the logarithms of these have sums that differ by rounding.
    factors = (0.25, 0.91, 0.98)
    for a, b in itertools.permutations(itertools.permutations(factors), 2):
        levels = [[0.0, x, y] for x, y in zip(a, b, strict=True)]
        assert pick_classes(CHAINS, levels, "consistent") == (1, 1, 1)


def test_zeros_and_tiny_probabilities_are_compared_rightly():
    assert pick_classes(TREE, [[1.0, 0.0], [0.0, 0.01, 0.99, 0.0]], "consistent") == (0, 1)
    # Levels that rule each other out leave no path; the first stands for all.
    assert pick_classes(TREE, [[1.0, 0.0], [0.0, 0.0, 1.0, 0.0]], "consistent") == (0, 0)
    levels = [[0.0, 1e-200, 0.0], [1.0, 1e-200, 0.0], [1.0, 1e-200, 0.0]]
    assert pick_classes(CHAINS, levels, "consistent") == (1, 1, 1)
    # The products 1e-450 and 1e-420 are both 0 as floats.
    levels = [[1e-150, 1e-140, 0.0]] * 3
    assert pick_classes(CHAINS, levels, "consistent") == (1, 1, 1)


def test_levels_carry_every_class():
    polarity, quadrant = prediction().levels
    assert polarity == LevelPrediction(
        "polarity", "positive", 0.4, {"negative": 0.6, "positive": 0.4}
    )
    assert quadrant.scores == dict(zip(TREE.leaves, OVERALL[1], strict=True))
    assert list(quadrant.scores) == list(TREE.leaves)


def test_every_branch_can_be_read():
    read = prediction()
    assert read.of("local").path == ("negative", "distressed")
    assert read.of("global").path == ("positive", "excited")
    assert read.of("local").of("overall") == read
    assert prediction(decode="independent").of("global").decode == "independent"
    assert failed().of("local").error == "it is empty"


def test_a_flat_network_has_no_local_branch():
    flat = prediction(probabilities={"overall": GLOBAL, "global": GLOBAL})
    with pytest.raises(InputError, match="m has no local branch; it has 'overall', 'global'"):
        flat.of("local")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"branch": "top"}, "m has no top branch; it has 'overall', 'local', 'global'"),
        ({"decode": "greedy"}, "decode must be one of 'consistent', 'independent', not 'greedy'"),
        ({"probabilities": {"overall": (OVERALL[0],)}}, r"have \(2,\) classes a level.*\(2, 4\)"),
    ],
)
def test_impossible_predictions_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        prediction(**changes)


def test_texts():
    assert repr(prediction()) == "Prediction(positive 0.40 > serene 0.70)"
    assert str(prediction(branch="local")) == "negative 0.90 > distressed 0.60"
    assert repr(failed()) == "Prediction(error: it is empty)"


def test_to_dict():
    content = prediction().to_dict()
    assert json.dumps(content) == (
        '{"image": "a.jpg", "model": "m", "path": ["positive", "serene"], "levels": ['
        '{"name": "polarity", "label": "positive", "score": 0.4,'
        ' "scores": {"negative": 0.6, "positive": 0.4}}, '
        '{"name": "quadrant", "label": "serene", "score": 0.7,'
        ' "scores": {"gloomy": 0.1, "distressed": 0.1, "serene": 0.7, "excited": 0.1}}],'
        ' "error": null}'
    )
    assert failed().to_dict() == {
        "image": "a.jpg",
        "model": "m",
        "path": [],
        "levels": [],
        "error": "it is empty",
    }


def test_to_dict_shares_nothing_with_the_prediction():
    read = prediction()
    read.to_dict()["levels"][0]["scores"]["negative"] = 5
    assert read.levels[0].scores["negative"] == 0.6


def test_a_failed_image_has_no_path():
    assert failed().path == ()
    assert failed().levels == ()


def test_predictions_are_frozen_and_can_be_pickled():
    read = prediction()
    assert read.levels
    assert pickle.loads(pickle.dumps(read)) == read
    with pytest.raises(dataclasses.FrozenInstanceError):
        read.error = "x"
