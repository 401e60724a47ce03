"""A tiny dataset in exactly the layout of the published OASIS folder, with images made here."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

HEADER = (
    ",Theme,Category,Source,Valence_mean,Valence_SD,Valence_N,Arousal_mean,Arousal_SD,Arousal_N"
)
# Two images a theme; warm colours are pleasant here and bright ones arousing.
THEMES = (
    ("Beach", (240, 200, 90), 5.9, 4.4),
    ("Fog", (90, 95, 110), 3.4, 2.2),
    ("Garden", (190, 140, 60), 5.6, 2.6),
    ("Storm", (200, 210, 250), 3.0, 5.1),
    ("Forest", (120, 110, 60), 5.0, 2.9),
    ("Fire", (160, 160, 250), 2.7, 5.6),
)


def write_oasis(folder: Path) -> Path:
    """Write table and images; return the folder."""
    images = folder / "images"
    images.mkdir(parents=True)
    lines = [HEADER]
    for theme, colour, valence, arousal in THEMES:
        for number in (1, 2):
            name = f"{theme} {number}"
            image = Image.new("RGB", (100, 80), colour)
            image.paste((colour[2], colour[0], colour[1]), (10 * number, 10, 50, 60))
            image.save(images / f"{name}.jpg")
            # The published table has spaces behind some themes, and carriage returns for lines.
            lines.append(
                f"I{len(lines)},{name}  ,Scenery,Pixabay,{valence},1.1,100,{arousal},1.6,101"
            )
    (folder / "OASIS.csv").write_text("\r".join(lines) + "\r", encoding="utf-8", newline="")
    return folder
