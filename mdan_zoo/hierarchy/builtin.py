"""Built-in hierarchies of published datasets and the models trained on them.

Class names use correct spelling; the spellings and class ids of the dataset releases are available
as aliases and release ids.
"""

from __future__ import annotations

from mdan_zoo.errors import UnknownNameError, did_you_mean
from mdan_zoo.hierarchy.tree import Hierarchy

_POLARITY = ("negative", "positive")
_POLARITY_NEUTRAL = ("negative", "neutral", "positive")
_PARROTT_LEVELS = ("polarity", "primary", "secondary")

# Parrott's primary emotions (Parrott 2001, after Shaver et al. 1987).
_PRIMARY = {
    **dict.fromkeys(("anger", "fear"), "negative"),
    **dict.fromkeys(("joy", "love"), "positive"),
    "sadness": "negative",
    "surprise": "positive",
}

# The secondary emotions of each primary one that Parrott's hierarchy and WEBEmo share.
_SHARED = {
    "anger": ("disgust", "envy", "exasperation", "irritability", "rage"),
    "fear": ("horror", "nervousness"),
    "joy": ("cheerfulness", "contentment", "enthrallment", "optimism", "pride", "relief", "zest"),
    "love": ("affection", "lust"),
    "sadness": ("disappointment", "neglect", "sadness", "shame", "suffering", "sympathy"),
    "surprise": ("surprise",),
}
_SECONDARY = {leaf: primary for primary, leaves in _SHARED.items() for leaf in leaves}


def _alphabetical(parents: dict[str, str]) -> dict[str, str]:
    return dict(sorted(parents.items()))


def _webemo(name: str, confusion: str | None) -> Hierarchy:
    """Build a variant of the WEBEmo hierarchy; variants differ in the parent of confusion.

    "confusion" makes it a primary emotion, as in the category.txt of the release; None removes it.
    """
    primary, secondary = dict(_PRIMARY), {**_SECONDARY, "gratitude": "love"}
    ids = {leaf: i for i, leaf in enumerate(sorted([*secondary, "confusion"]))}
    if confusion is None:
        del ids["confusion"]
    else:
        secondary["confusion"] = confusion
    if confusion == "confusion":
        primary["confusion"] = "negative"
    return Hierarchy.from_parents(
        name,
        _POLARITY,
        [_alphabetical(primary), _alphabetical(secondary)],
        level_names=_PARROTT_LEVELS,
        aliases={"cheerfullness": "cheerfulness", "irritabilty": "irritability"},
        release_ids={"webemo": ids},
    )


def _mikels8() -> Hierarchy:
    """Build Mikels' eight emotions (FI, EmoSet, ArtPhoto, Abstract, IAPSsubset, the LDL sets).

    Class ids follow EmoSet, where polarity 0 is positive; those of torchvision's ImageFolder on FI
    are alphabetical. The aliases are from the folder and file names of FI and ArtPhoto.
    """
    positive = dict.fromkeys(("amusement", "awe", "contentment", "excitement"), "positive")
    emotions = positive | dict.fromkeys(("anger", "disgust", "fear", "sadness"), "negative")
    return Hierarchy.from_parents(
        "mikels8",
        ("positive", "negative"),
        [emotions],
        level_names=("polarity", "emotion"),
        aliases={
            "amuse": "amusement",
            "content": "contentment",
            "excit": "excitement",
            "excite": "excitement",
            "sad": "sadness",
        },
        release_ids={
            "alphabetical": {name: i for i, name in enumerate(sorted(emotions))},
            "emoset": {name: i for i, name in enumerate(emotions)},
        },
    )


def _ekman6(name: str, polarities: tuple[str, ...], surprise: str) -> Hierarchy:
    """Build Ekman's six emotions; publications differ in the polarity of surprise."""
    emotions = dict.fromkeys(("anger", "disgust", "fear"), "negative")
    emotions |= {"joy": "positive", "sadness": "negative", "surprise": surprise}
    return Hierarchy.from_parents(name, polarities, [emotions], level_names=("polarity", "emotion"))


_HIERARCHIES = {
    hierarchy.name: hierarchy
    for hierarchy in (
        # Sizes as in Table 1 of the paper; a public reimplementation uses the same parent.
        _webemo("webemo25", confusion="sadness"),
        _webemo("webemo25_confusion_fear", confusion="fear"),
        _webemo("webemo25_release", confusion="confusion"),
        _webemo("webemo24", confusion=None),
        Hierarchy.from_parents(
            "parrott25",
            _POLARITY,
            [_PRIMARY, _alphabetical({**_SECONDARY, "longing": "love", "torment": "anger"})],
            level_names=_PARROTT_LEVELS,
        ),
        # The classes of Emotion-6 and UnBiasedEmo (Panda et al. 2018): Parrott's primary emotions.
        Hierarchy.from_parents("panda6", _POLARITY, [_PRIMARY], level_names=_PARROTT_LEVELS[:2]),
        _mikels8(),
        _ekman6("ekman6", _POLARITY, surprise="positive"),
        # The EmoSet paper, section 4.2.
        _ekman6("ekman6_neutral", _POLARITY_NEUTRAL, surprise="neutral"),
        # Quadrants of Russell's circumplex model; the class names are not from the literature.
        Hierarchy.from_nested(
            {"negative": ["gloomy", "distressed"], "positive": ["serene", "excited"]},
            "circumplex4",
            level_names=("polarity", "quadrant"),
        ),
        Hierarchy.from_parents("polarity2", _POLARITY, level_names=_PARROTT_LEVELS[:1]),
        Hierarchy.from_parents("polarity3", _POLARITY_NEUTRAL, level_names=_PARROTT_LEVELS[:1]),
    )
}


def list_hierarchies() -> list[str]:
    """Return the names of the built-in hierarchies, sorted."""
    return sorted(_HIERARCHIES)


def get_hierarchy(name: str) -> Hierarchy:
    """Return a built-in hierarchy.

    Args:
        name: One of `list_hierarchies()`:

            * webemo25: WEBEmo's 25 emotions below Parrott's six, confusion below sadness.
            * webemo25_confusion_fear: the same with confusion below fear.
            * webemo25_release: the 2/7/25 hierarchy of the release, confusion a primary emotion.
            * webemo24: WEBEmo without confusion.
            * parrott25: Parrott's secondary emotions.
            * panda6: the classes of Emotion-6 and UnBiasedEmo, Parrott's six.
            * mikels8: Mikels' eight, in EmoSet's order.
            * ekman6: Ekman's six, surprise positive.
            * ekman6_neutral: Ekman's six with three polarities, surprise neutral.
            * circumplex4: the quadrants of valence and arousal.
            * polarity2: one level, negative and positive.
            * polarity3: one level, negative, neutral and positive.

    Raises:
        UnknownNameError: Unknown name.

    >>> print(get_hierarchy("circumplex4"))
    circumplex4 (polarity > quadrant: 2/4 classes)
      negative: gloomy, distressed
      positive: serene, excited
    """
    if not isinstance(name, str) or name not in _HIERARCHIES:
        raise UnknownNameError(
            f"there is no built-in hierarchy {name!r}: {did_you_mean(name, _HIERARCHIES)}"
        )
    return _HIERARCHIES[name]


def builtin_name(hierarchy: Hierarchy, otherwise: str) -> str:
    """Return the name of a built-in hierarchy, and `otherwise` for any other."""
    known = _HIERARCHIES.get(hierarchy.name) == hierarchy
    return hierarchy.name if known else otherwise
