"""The emotion trees as their sources state them, to hold the built-in ones against.

WEBEmo: the release's category.txt, its two misspellings put right. Parrott: Parrott (2001), after
Shaver et al. (1987). Mikels: EmoSet's info.json, in which 0 is positive. Emotion-6: Panda et al.
(2018). Ekman with a neutral surprise: the EmoSet paper, section 4.2. The circumplex has names that
are our choice.
"""

from __future__ import annotations

# Class names of every level, coarse to fine, in the order of their ids.
LEVELS = {
    "circumplex4": (
        "negative positive",
        "gloomy distressed serene excited",
    ),
    "ekman6": (
        "negative positive",
        "anger disgust fear joy sadness surprise",
    ),
    "ekman6_neutral": (
        "negative neutral positive",
        "anger disgust fear joy sadness surprise",
    ),
    "mikels8": (
        "positive negative",
        "amusement awe contentment excitement anger disgust fear sadness",
    ),
    "panda6": (
        "negative positive",
        "anger fear joy love sadness surprise",
    ),
    "parrott25": (
        "negative positive",
        "anger fear joy love sadness surprise",
        "affection cheerfulness contentment disappointment disgust enthrallment envy "
        "exasperation horror irritability longing lust neglect nervousness optimism pride "
        "rage relief sadness shame suffering surprise sympathy torment zest",
    ),
    "polarity2": ("negative positive",),
    "polarity3": ("negative neutral positive",),
    "webemo24": (
        "negative positive",
        "anger fear joy love sadness surprise",
        "affection cheerfulness contentment disappointment disgust enthrallment envy "
        "exasperation gratitude horror irritability lust neglect nervousness optimism pride "
        "rage relief sadness shame suffering surprise sympathy zest",
    ),
    "webemo25": (
        "negative positive",
        "anger fear joy love sadness surprise",
        "affection cheerfulness confusion contentment disappointment disgust enthrallment "
        "envy exasperation gratitude horror irritability lust neglect nervousness optimism "
        "pride rage relief sadness shame suffering surprise sympathy zest",
    ),
    "webemo25_confusion_fear": (
        "negative positive",
        "anger fear joy love sadness surprise",
        "affection cheerfulness confusion contentment disappointment disgust enthrallment "
        "envy exasperation gratitude horror irritability lust neglect nervousness optimism "
        "pride rage relief sadness shame suffering surprise sympathy zest",
    ),
    "webemo25_release": (
        "negative positive",
        "anger confusion fear joy love sadness surprise",
        "affection cheerfulness confusion contentment disappointment disgust enthrallment "
        "envy exasperation gratitude horror irritability lust neglect nervousness optimism "
        "pride rage relief sadness shame suffering surprise sympathy zest",
    ),
}

# For every level but the finest, the children of each of its classes.
CHILDREN = {
    "circumplex4": (
        {
            "negative": "distressed gloomy",
            "positive": "excited serene",
        },
    ),
    "ekman6": (
        {
            "negative": "anger disgust fear sadness",
            "positive": "joy surprise",
        },
    ),
    "ekman6_neutral": (
        {
            "negative": "anger disgust fear sadness",
            "neutral": "surprise",
            "positive": "joy",
        },
    ),
    "mikels8": (
        {
            "negative": "anger disgust fear sadness",
            "positive": "amusement awe contentment excitement",
        },
    ),
    "panda6": (
        {
            "negative": "anger fear sadness",
            "positive": "joy love surprise",
        },
    ),
    "parrott25": (
        {
            "negative": "anger fear sadness",
            "positive": "joy love surprise",
        },
        {
            "anger": "disgust envy exasperation irritability rage torment",
            "fear": "horror nervousness",
            "joy": "cheerfulness contentment enthrallment optimism pride relief zest",
            "love": "affection longing lust",
            "sadness": "disappointment neglect sadness shame suffering sympathy",
            "surprise": "surprise",
        },
    ),
    "polarity2": (),
    "polarity3": (),
    "webemo24": (
        {
            "negative": "anger fear sadness",
            "positive": "joy love surprise",
        },
        {
            "anger": "disgust envy exasperation irritability rage",
            "fear": "horror nervousness",
            "joy": "cheerfulness contentment enthrallment optimism pride relief zest",
            "love": "affection gratitude lust",
            "sadness": "disappointment neglect sadness shame suffering sympathy",
            "surprise": "surprise",
        },
    ),
    "webemo25": (
        {
            "negative": "anger fear sadness",
            "positive": "joy love surprise",
        },
        {
            "anger": "disgust envy exasperation irritability rage",
            "fear": "horror nervousness",
            "joy": "cheerfulness contentment enthrallment optimism pride relief zest",
            "love": "affection gratitude lust",
            "sadness": "confusion disappointment neglect sadness shame suffering sympathy",
            "surprise": "surprise",
        },
    ),
    "webemo25_confusion_fear": (
        {
            "negative": "anger fear sadness",
            "positive": "joy love surprise",
        },
        {
            "anger": "disgust envy exasperation irritability rage",
            "fear": "confusion horror nervousness",
            "joy": "cheerfulness contentment enthrallment optimism pride relief zest",
            "love": "affection gratitude lust",
            "sadness": "disappointment neglect sadness shame suffering sympathy",
            "surprise": "surprise",
        },
    ),
    "webemo25_release": (
        {
            "negative": "anger confusion fear sadness",
            "positive": "joy love surprise",
        },
        {
            "anger": "disgust envy exasperation irritability rage",
            "confusion": "confusion",
            "fear": "horror nervousness",
            "joy": "cheerfulness contentment enthrallment optimism pride relief zest",
            "love": "affection gratitude lust",
            "sadness": "disappointment neglect sadness shame suffering sympathy",
            "surprise": "surprise",
        },
    ),
}

# WEBEmo's classes in the release's spelling and in the order of its ids, and the right spelling.
WEBEMO_RELEASE = (
    "affection cheerfullness confusion contentment disappointment disgust enthrallment envy "
    "exasperation gratitude horror irritabilty lust neglect nervousness optimism pride rage "
    "relief sadness shame suffering surprise sympathy zest"
)
WEBEMO_SPELLINGS = {"cheerfullness": "cheerfulness", "irritabilty": "irritability"}

# Short forms in the file names of FI and ArtPhoto, and the order of folders on disk.
MIKELS_SPELLINGS = {
    "amuse": "amusement",
    "content": "contentment",
    "excit": "excitement",
    "excite": "excitement",
    "sad": "sadness",
}
MIKELS_ALPHABETICAL = "amusement anger awe contentment disgust excitement fear sadness"
