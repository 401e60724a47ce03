"""Fine-tune a released model on a custom hierarchy: python examples/fine_tune.py [FOLDER].

FOLDER contains images in subfolders such as pleasant/calm, which define the hierarchy. Without
FOLDER, crops of the two photographs in this folder, plain and darkened, represent four emotions.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageEnhance

from mdan_zoo import Hierarchy
from mdan_zoo.training import TrainingConfig, fine_tuning_recipe, train


def main() -> None:
    output = Path(tempfile.mkdtemp()) / "my_model"
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else make_images(output.with_name("images"))
    folders = sorted(path for path in data.glob("*/*") if path.is_dir())
    tree = {f.parent.name: [g.name for g in folders if g.parent == f.parent] for f in folders}
    recipe = fine_tuning_recipe("mdan_oasis4", ["cached_views=2", "batch_size=8"])
    weights = train(TrainingConfig(recipe, data, output, hierarchy=Hierarchy.from_nested(tree)))
    print(f"weights: {weights}\nreport: {output / 'test' / 'evaluation.md'}")


def make_images(data: Path) -> Path:
    for photo in sorted(Path(__file__).parent.glob("*.jpg")):
        for coarse, brightness in (("light", 1.0), ("dark", 0.2)):
            image = ImageEnhance.Brightness(Image.open(photo)).enhance(brightness)
            folder = data / coarse / f"{coarse} {photo.stem}"
            folder.mkdir(parents=True)
            for x in range(0, 150, 15):
                image.crop((x, 0, x + 300, 300)).save(folder / f"{x}.jpg")
    return data


if __name__ == "__main__":
    main()
