"""The options of MDAN's ablations: equations, parameter counts, and combinations."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest
import torch
from architecture_tests import ArchitectureTests, assert_same_output, images, tiny_config
from tiny_mdan import TREES, TinyPyramid, check_equals_the_formulas, tiny_mdan

from mdan_zoo.backbones.pyramid import build_backbone
from mdan_zoo.errors import InputError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.flat import FlatClassifier
from mdan_zoo.models.mdan.network import MDAN
from mdan_zoo.models.options import FlatOptions, MDANOptions
from mdan_zoo.zoo.factory import create_model

LOCAL = {"branches": "local", "alpha": 1}
ANY_ORDER = {"lcam": "off", "semantic_levels": (2, 3, 4)}
COMBINATIONS = {
    "keys and values": {"fusion": "mhcca_kv"},
    "all values": {"value": "all"},
    "keys and all values": {"fusion": "mhcca_kv", "value": "all", "lcam_pooling": "max"},
    "no upsample_add": {"upsample_add": False},
    "mean": {"lcam_pooling": "mean"},
    "max": {"lcam_pooling": "max", "lcam": "normalised"},
    "one head": {"heads": (1, 1, 1)},
    "heads within rows": {"heads": (4, 16, 48)},  # of maps 6 x 4, 12 x 8 and 24 x 16
    "all values of heads within rows": {"heads": (24, 32, 3), "value": "all"},
    "no upsample_add, heads within rows": {"upsample_add": False, "heads": (4, 16, 48)},
    "reversed": ANY_ORDER,
    "mixed": {"lcam": "off", "semantic_levels": (3, 2, 4), "upsample_add": False},
    "lateral": {"fusion": "lateral"},
    "lateral, local": {"fusion": "lateral", **LOCAL},
    "lateral, reversed": {"fusion": "lateral", **ANY_ORDER, **LOCAL},
    "local": LOCAL,
    "none": {"fusion": "none"},
    "none, upwards": {"fusion": "none", "semantic_levels": (3, 4, 5)},
    "none, reversed": {"fusion": "none", **ANY_ORDER},
    "none, C5 and C4": {"fusion": "none", "semantic_levels": (5, 4, 3), **LOCAL},
    "none, C2 to C4": {"fusion": "none", "semantic_levels": (2, 3, 4), **LOCAL},
}


@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.parametrize("depth", [1, 3])
def test_equals_the_formulas_in_outputs_and_gradients(name, depth):
    model = tiny_mdan(depth, **COMBINATIONS[name])
    check(model, torch.randn(2, 3, 96, 64, dtype=torch.float64))


@pytest.mark.parametrize(
    ("depth", "options", "others"),
    [
        (2, {"semantic_levels": (3, 2)}, ["C4"]),
        (1, {"semantic_levels": (2,), "fusion": "lateral"}, ["C4", "C3"]),
        (2, {"semantic_levels": (2, 4, 3), "lcam": "off", "upsample_add": False}, ["C3"]),
    ],
)
def test_maps_that_no_classifier_reads_feed_down(depth, options, others):
    model = tiny_mdan(depth, **options)
    assert list(model.unclassified) == others
    check(model, torch.randn(2, 3, 64, 96, dtype=torch.float64))


@pytest.mark.parametrize("fusion", ["lateral", "none"])
def test_equals_the_formulas_with_normalised_maps(fusion):
    model = tiny_mdan(2, fusion=fusion, normalise_pyramid=True, semantic_levels=(3, 2), lcam="off")
    for norm in model.norms:
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    assert isinstance(model.norms[0], torch.nn.Identity) == (fusion == "none")
    check(model, torch.randn(3, 3, 96, 64, dtype=torch.float64))


@pytest.mark.parametrize("size", [(224, 320), (32, 64)])
@pytest.mark.parametrize("options", [{"value": "all"}, {"fusion": "mhcca_kv"}])
def test_equals_the_formulas_where_the_other_order_of_products_is_cheaper(options, size):
    check(tiny_mdan(3, **options), torch.randn(1, 3, *size, dtype=torch.float64))


def check(model, pixels):
    unused = ()
    if model.auxiliary_loss(model(pixels), ()) is not None:  # nothing reads C5
        highest = max(model.options.semantic_levels[: model.hierarchy.depth])
        unused = [f"backbone.stages.{n}." for n in range(highest - 1, 4)]
    check_equals_the_formulas(model, pixels, unused)


@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_only_the_maps_that_are_named_are_read(name, depth):
    model = tiny_mdan(depth, **COMBINATIONS[name])
    pyramid = model.backbone(torch.randn(2, 3, 96, 64, dtype=torch.float64))
    read = model.pyramid_stages()
    given = [stage if n in read else torch.empty(0) for n, stage in enumerate(pyramid)]
    expected = model.predict_pyramid(pyramid)
    assert_same_output(model.predict_pyramid(given), expected, tolerance=0)
    for index in set(read) - {3}:
        changed = [stage + 1 if n == index else stage for n, stage in enumerate(pyramid)]
        found = model.predict_pyramid(changed).log_probs["local"]
        pairs = zip(found, expected.log_probs["local"], strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs), f"C{index + 2} has no effect"


def test_the_default_options_read_what_they_read_before():
    assert [tiny_mdan(depth).pyramid_stages() for depth in (1, 2, 3)] == [
        [2, 3],
        [1, 2, 3],
        [0, 1, 2, 3],
    ]


def documented():
    """Return options and number of parameters of every row of the paper's ablations."""
    document = Path(__file__).parents[2] / "docs" / "network.md"
    text = document.read_text(encoding="utf-8")
    table = re.search(r"\| in the paper \|.*?\n\n", text, re.DOTALL)[0].strip()
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert len(rows) == 6 + 7 + 9 + 2  # Tables 2, 4 and 5, where row 8 has two readings, and Fig. 7
    for row, options, count in rows:
        given = eval(f"dict({options.strip('`')})") if options != "the defaults" else {}
        yield pytest.param(given, int(count.replace(",", "")), id=row)


@functools.cache
def resnet101():
    with torch.device("meta"):
        return build_backbone("resnet101")


@pytest.mark.parametrize(("options", "count"), [*documented()])
def test_parameters_of_the_papers_ablations(options, count, request):
    depth = 2 if "Table 4" in request.node.name else 3
    config = ModelConfig("model", "mikels8", "FI", options=MDANOptions(**options))
    with torch.device("meta"):
        network = MDAN(*resnet101(), TREES[depth], config.options)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize("alpha", [0, 1])
def test_one_branch_alone_has_finite_gradients_and_gives_the_overall_probabilities(alpha):
    model = tiny_mdan(3, alpha=alpha).float()
    with torch.no_grad():  # a probability of zero
        model.levels[0].classifier.bias[0] = -1e4
        model.global_classifier.bias[3] = -1e4
    output = model(torch.randn(2, 3, 64, 64))
    own, other = ("local", "global") if alpha else ("global", "local")
    for a, b in zip(output.log_probs["overall"], output.log_probs[own], strict=True):
        assert torch.equal(a, b)
    sum(level[:, 0].mean() for level in output.log_probs["overall"]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
    by_branch = {"local": model.levels[-1].classifier, "global": model.global_classifier}
    assert by_branch[own].weight.grad.abs().max() > 0
    assert by_branch[other].weight.grad.abs().max() == 0


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_local_branch_alone_equals_alpha_1(depth):
    whole, local = tiny_mdan(depth, alpha=1), tiny_mdan(depth, **LOCAL)
    missing = local.load_state_dict(whole.state_dict(), strict=False)
    assert missing.missing_keys == []
    assert missing.unexpected_keys == ["global_classifier.weight", "global_classifier.bias"]
    pixels = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    expected, found = whole(pixels), local(pixels)
    assert (list(found.log_probs), local.alpha) == (["overall", "local"], None)
    for a, b in zip(found.log_probs["overall"], expected.log_probs["overall"], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_global_branch_alone_is_the_flat_network(depth):
    """Also of an MDAN with alpha 0."""
    options = MDANOptions(branches="global", alpha=0, dropout=0.5)
    model = MDAN(TinyPyramid(), TinyPyramid.channels, TREES[depth], options).eval()
    flat = FlatClassifier(
        TinyPyramid(), TinyPyramid.channels, TREES[depth], FlatOptions(0.5)
    ).eval()
    flat.load_state_dict(model.state_dict())
    pixels = torch.randn(2, 3, 64, 96)
    found, expected = model(pixels, return_maps=True), flat(pixels, return_maps=True)
    assert_same_output(found, expected, tolerance=0)
    assert found.maps == expected.maps == ()
    assert torch.equal(*found.class_maps, *expected.class_maps)
    assert (model.branches, model.alpha) == (flat.branches, flat.alpha)
    assert [*model.pyramid_stages()] == [*flat.pyramid_stages()]
    assert model.classifiers() == flat.classifiers()

    whole = tiny_mdan(depth, alpha=0).float()
    whole.load_state_dict(flat.state_dict(), strict=False)
    pairs = zip(whole(pixels).log_probs["overall"], found.log_probs["overall"], strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "sum"}, "fusion must be one of mhcca, mhcca_kv, lateral, none, not 'sum'"),
        ({"value": None}, "value must be one of band, all, not None"),
        ({"branches": ["local"]}, r"branches must be one of both, .*, not \['local'\]"),
        ({"lcam_pooling": "min"}, r"lcam_pooling must be one of mean\+max, mean, max, not 'min'"),
        ({"upsample_add": 1}, "upsample_add must be True or False, not 1"),
        ({"semantic_levels": (4, 2)}, r"successive levels .* such as \(4, 3, 2\), not \(4, 2\)"),
        ({"semantic_levels": (4, 4, 3)}, r"each once, .* not \(4, 4, 3\)"),
        ({"semantic_levels": (2, 1)}, r"of 5, 4, 3 and 2, .* not \(2, 1\)"),
        ({"semantic_levels": (5, 4, 3, 2)}, r"one to three .* not \(5, 4, 3, 2\)"),
        ({"semantic_levels": ()}, r"one to three .* not \(\)"),
        ({"semantic_levels": 4}, "semantic_levels must be .* not 4"),
        ({"semantic_levels": (True, 2)}, r"semantic_levels must be .* not \(True, 2\)"),
        ({"fusion": "lateral", "upsample_add": False}, "False .* fusion='lateral'; use True"),
        ({"fusion": "none", "upsample_add": False}, "False .* fusion='none'; use True"),
        ({"fusion": "lateral", "value": "all"}, "value='all' .* fusion='lateral'; use 'band'"),
        ({"lcam": "off", "lcam_pooling": "max"}, "'max' .* lcam='off'; use 'mean.max'"),
        ({"branches": "local"}, "with branches='local', alpha must be 1, not 0.7"),
        ({"branches": "global"}, "with branches='global', alpha must be 0, not 0.7"),
        (
            {"branches": "global", "alpha": 0, "fusion": "none"},
            "fusion='none' cannot be combined with branches='global'; use 'mhcca'",
        ),
        ({"semantic_levels": (5, 4, 3)}, r"starts at C5, .* not \(5, 4, 3\); fusion='none' allows"),
        ({"semantic_levels": (2, 3, 4)}, r"must descend, not be \(2, 3, 4\); lcam='off' or"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        MDANOptions(**options)


def test_a_deeper_hierarchy_than_semantic_levels_is_refused():
    options = MDANOptions(semantic_levels=(4, 3))
    config = ModelConfig("model", "mikels8", "FI", "test_resnet", options=options)
    create_model(config, hierarchy=TREES[2])
    with pytest.raises(InputError, match=r"has 3 levels, .* as many, not \(4, 3\)"):
        create_model(config, hierarchy=TREES[3])


@pytest.mark.parametrize(
    ("heads", "crop", "positions"),
    [
        ((3, 4, 8), 448, "784, 3136, 12544 at 448 x 448"),
        ((16, 16, 8), 32, "4, 16, 64 at 32 x 32"),
        ((2, 4, 7), 64, "16, 64, 256 at 64 x 64"),
    ],
)
def test_heads_that_do_not_divide_the_maps_of_the_crop_are_refused(heads, crop, positions):
    def config(**options):
        spec = InputSpec(resize=512, crop=crop)
        options = MDANOptions(heads=heads, **options)
        return ModelConfig("model", "mikels8", "FI", options=options, input=spec)

    message = rf"C4, C3 and C2, which are {positions} pixels, not \({heads[0]}, "
    with pytest.raises(InputError, match=message):
        config()
    config(fusion="lateral")  # without heads


def test_heads_that_do_not_divide_the_maps_of_an_image_are_refused():
    model = tiny_mdan(2, heads=(16, 16, 8))
    model(torch.zeros(1, 3, 64, 64, dtype=torch.float64))
    with pytest.raises(InputError, match=r"16 heads do not divide the 24 positions .* 6 x 4"):
        model(torch.zeros(1, 3, 96, 64, dtype=torch.float64))


def test_configs_are_stored_without_new_options_at_their_defaults():
    config = ModelConfig("model", "mikels8", "FI")
    stored = config.to_dict()
    names = ["dim", "alpha", "heads", "lcam", "normalise_pyramid", "dropout"]
    assert list(stored["options"]) == names
    assert ModelConfig.from_dict(stored) == config
    options = MDANOptions(fusion="lateral", lcam="off", semantic_levels=(2, 3, 4))
    config = ModelConfig("model", "mikels8", "FI", options=options)
    assert list(config.to_dict()["options"]) == [*names, "fusion", "semantic_levels"]
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_priors_of_a_local_branch_are_those_of_its_finest_classifier():
    model = tiny_mdan(2, **LOCAL)
    coarse = model.levels[0].classifier.weight.clone()
    frequencies = torch.arange(1.0, 9.0, dtype=torch.float64) / 36
    model.set_priors(frequencies)
    probs = model(torch.randn(1, 3, 64, 64, dtype=torch.float64)).probs["overall"][1]
    torch.testing.assert_close(probs[0], frequencies)
    assert torch.equal(model.levels[0].classifier.weight, coarse)


VARIANTS = {
    "kv": {"fusion": "mhcca_kv", "value": "all", "heads": (8, 16, 32), "upsample_add": False},
    "lateral": {"fusion": "lateral", **ANY_ORDER, **LOCAL},
    "none": {"fusion": "none", "semantic_levels": (2, 3, 4), **LOCAL},
}


@functools.cache
def variant(name, depth):
    torch.manual_seed(depth)
    config = tiny_config("mdan", MDANOptions(dim=16, **VARIANTS[name]))
    network = create_model(config, hierarchy=TREES[depth])
    network(images())
    return network.eval()


class TestAblations(ArchitectureTests):
    architectures = tuple(VARIANTS)

    @pytest.fixture
    def config(self, architecture):
        return tiny_config("mdan", MDANOptions(dim=16, **VARIANTS[architecture]))

    @pytest.fixture
    def network(self, architecture, depth):
        return variant(architecture, depth)

    @pytest.fixture
    def expected(self, network):
        with torch.no_grad():
            return network(images())
