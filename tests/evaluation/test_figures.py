"""Probabilities of 25 classes made here: what follows from them, and their figures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from mdan_zoo.evaluation.figures import (
    alpha_accuracies,
    draw_alpha,
    draw_confusion,
    draw_reliability,
)
from mdan_zoo.evaluation.metrics import Outcomes
from mdan_zoo.evaluation.probabilities import Probabilities, load_probabilities
from mdan_zoo.evaluation.results import violations
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

TREE = get_hierarchy("webemo25")


def made_probabilities(count: int) -> Probabilities:
    """Return probabilities that are right more often than not, the branches with own errors."""
    generator = np.random.default_rng(5)
    labels = np.array(TREE.leaf_paths)[generator.integers(0, 25, count)]

    def level(index: int) -> np.ndarray:
        logits = generator.normal(size=(count, TREE.sizes[index]))
        logits[np.arange(count), labels[:, index]] += 1.5
        exponentials = np.exp(logits)
        return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)

    local = tuple(level(index) for index in range(3))
    leaves = level(2)
    summed = tuple(leaves @ np.array(TREE.membership(index), np.float32).T for index in range(3))
    names = tuple(f"{n}.jpg" for n in range(count))
    return Probabilities(TREE, 0.7, names, labels, {"local": local, "global": summed})


@pytest.fixture(scope="module")
def data() -> Probabilities:
    return made_probabilities(400)


def test_any_alpha_follows_from_the_two_branches(data):
    alphas = np.array([0.0, 0.25, 0.7, 1.0])
    found = alpha_accuracies(data, alphas)
    assert found.shape == (3, 4)
    for level in range(3):
        labels = data.labels[:, level]
        for column, alpha in enumerate(alphas):
            overall = alpha * data.by_branch["local"][level].astype(float)
            overall += (1 - alpha) * data.by_branch["global"][level].astype(float)
            assert found[level, column] == np.mean(overall.argmax(axis=1) == labels)
        assert found[level, 0] == np.mean(data.by_branch["global"][level].argmax(axis=1) == labels)
        assert found[level, 3] == np.mean(data.by_branch["local"][level].argmax(axis=1) == labels)
        np.testing.assert_array_equal(data.of("overall", level), data.overall(level, 0.7))


def test_violations_are_classes_that_are_no_path(data):
    predicted = [data.of("local", level).argmax(axis=1) for level in range(3)]
    found = violations(data, predicted)
    paths = set(TREE.leaf_paths)
    expected = [path not in paths for path in zip(*predicted, strict=True)]
    assert found.tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_a_violation_at_any_level_counts_once():
    data = made_probabilities(4)
    joy = TREE.index(1, "joy")
    pride, rage = TREE.index(2, "pride"), TREE.index(2, "rage")
    positive, negative = TREE.index(0, "positive"), TREE.index(0, "negative")
    predicted = [
        np.array([positive, negative, positive, negative]),
        np.array([joy, joy, joy, joy]),
        np.array([pride, pride, rage, rage]),
    ]
    assert violations(data, predicted).tolist() == [0, 1, 1, 1]


def test_bins_of_the_diagram_add_up_to_the_calibration_error(data):
    outcomes = Outcomes.of(data.of("overall", 2), data.labels[:, 2])
    assert outcomes.bins.min() >= 0
    assert outcomes.bins.max() <= 14
    lines = draw_reliability(data).axes[2].get_lines()[1:]  # the secondary level, without diagonal
    by_branch = {line.get_label(): line for line in lines}
    assert set(by_branch) == {"overall", "local", "global"}
    confidence, right = by_branch["overall"].get_data()
    filled = np.unique(outcomes.bins)
    np.testing.assert_allclose(
        confidence[filled], [outcomes.confidence[outcomes.bins == b].mean() for b in filled]
    )
    np.testing.assert_allclose(
        right[filled], [outcomes.correct[outcomes.bins == b].mean() for b in filled]
    )


def test_siblings_are_side_by_side_in_the_confusion_matrix():
    counts = np.arange(625).reshape(25, 25)
    axes = draw_confusion(counts, TREE, 2, "P_L").axes[0]
    assert axes.get_title().startswith("secondary: P_L, ")
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert sorted(shown) == sorted(TREE.levels[2])
    parents = [TREE.parent(2, name) for name in shown]
    changes = [k for k in range(1, 25) if parents[k] != parents[k - 1]]
    assert len(changes) == 5  # six parents, each in one piece
    borders = [line.get_ydata()[0] + 0.5 for line in axes.get_lines()[::2]]
    assert borders == changes
    first = TREE.index(2, shown[0])
    row = counts[first, [TREE.index(2, name) for name in shown]] / counts[first].sum()
    np.testing.assert_allclose(axes.images[0].get_array()[0], row)


def test_names_are_text_and_not_formulas(tmp_path):
    tree = Hierarchy.from_nested({"good $x^$": ["a$^$", r"b $\q$"]})
    figure = draw_confusion(np.eye(2, dtype=int), tree, 1)
    figure.savefig(tmp_path / "confusion.png")
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert shown == list(tree.leaves)


@pytest.mark.parametrize(("right", "ends"), [(True, (97.2, 100)), (False, (0, 2.8))])
def test_no_axis_goes_beyond_all_or_none(data, right, ends):
    """Of one image, of which every branch is sure."""
    path = TREE.leaf_paths[0]
    labels = np.array([path if right else TREE.leaf_paths[-1]])
    sure = tuple(
        np.eye(size, dtype=np.float32)[[k]] for size, k in zip(TREE.sizes, path, strict=True)
    )
    by_branch = {"local": sure, "global": sure}
    one = dataclasses.replace(data, images=("one",), labels=labels, by_branch=by_branch)
    axes = draw_alpha(one).axes[-1]
    assert axes.get_ylim() == pytest.approx(ends)


def one_level(data: Probabilities) -> Probabilities:
    """Return the probabilities of the finest level, as of a hierarchy without parents."""
    leaves = {branch: (levels[-1],) for branch, levels in data.by_branch.items()}
    tree = Hierarchy.from_nested(list(TREE.leaves))
    return dataclasses.replace(data, hierarchy=tree, labels=data.labels[:, -1:], by_branch=leaves)


FIGURES = {
    "reliability": draw_reliability,
    "narrow reliability": lambda data: draw_reliability(one_level(data)),
    "alpha": draw_alpha,
    "confusion": lambda _: draw_confusion(np.full((25, 25), 1000), TREE, 2),
    "small confusion": lambda _: draw_confusion(np.full((2, 2), 1000), TREE, 0),
}


def drawn_labels(axis: Axis) -> list[Text]:
    """Return the labels of the ticks within the axis; those beyond its ends are not drawn."""
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_no_two_labels_overlap(data, name):
    """All texts of a figure are apart from each other and inside of it."""
    figure = FIGURES[name](data)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [
        text
        for axes in figure.axes
        for text in [
            axes.title,
            axes.xaxis.label,
            axes.yaxis.label,
            *drawn_labels(axes.xaxis),
            *drawn_labels(axes.yaxis),
            *axes.texts,
        ]
        if text.get_text() and text.get_visible()
    ]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    boxes = [text.get_window_extent(renderer) for text in texts]
    assert len(boxes) > 8
    width, height = canvas.get_width_height()
    for number, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        for other in range(number):
            assert not box.overlaps(boxes[other]), (texts[number], texts[other])


def test_saved_probabilities_are_read_by_numpy_alone(data, tmp_path):
    path = tmp_path / "probabilities.npz"
    data.save(path)
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["images"][3] == "3.jpg"
        assert arrays["alpha"] == 0.7
        for level, name in enumerate(TREE.level_names):
            assert tuple(arrays[f"classes_{name}"]) == TREE.levels[level]
            np.testing.assert_array_equal(arrays[f"labels_{name}"], data.labels[:, level])
            np.testing.assert_array_equal(arrays[f"local_{name}"], data.by_branch["local"][level])
            np.testing.assert_array_equal(arrays[f"global_{name}"], data.by_branch["global"][level])
            assert arrays[f"local_{name}"].dtype == np.float32


def test_saved_probabilities_of_all_folds_are_read_as_one(data, tmp_path):
    paths = [tmp_path / "0.npz", tmp_path / "1.npz"]
    for path in paths:
        data.save(path)
    found = load_probabilities(paths, TREE)
    assert found.images == data.images * 2
    assert (found.alpha, found.branches) == (data.alpha, data.branches)
    np.testing.assert_array_equal(found.labels, np.concatenate([data.labels] * 2))
    for branch in data.branches:
        expected = np.concatenate([data.of(branch, 1)] * 2)
        np.testing.assert_array_equal(found.of(branch, 1), expected)
    dataclasses.replace(data, by_branch={"global": data.by_branch["global"]}).save(paths[0])
    assert load_probabilities(paths[:1], TREE).branches == ("overall",)


def test_figures_are_images(data, tmp_path):
    path = tmp_path / "alpha.png"
    draw_alpha(data).savefig(path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 2 * image.height
