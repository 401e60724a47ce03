"""Print the lowest allowed version of every dependency in setup.cfg, as pip constraints.

A dependency without a lower bound is not printed: pip chooses its version.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path


def main() -> None:
    """Print one constraint a line, such as `timm==1.0.12`."""
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
    requirements = config["options"]["install_requires"].splitlines()
    for extra in ("train", "parquet", "evaluate", "test"):
        requirements += config["options.extras_require"][extra].splitlines()
    bounds = [re.match(r"([\w-]+)>=([\w.]+)", line) for line in requirements]
    print("\n".join(sorted({f"{bound[1]}=={bound[2]}" for bound in bounds if bound})))


if __name__ == "__main__":
    main()
