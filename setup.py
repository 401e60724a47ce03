"""Build script: copies the weights manifest from the repository's root into the package.

All metadata is in setup.cfg.
"""

from __future__ import annotations

import os
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

MANIFEST = "weights_manifest.json"


class BuildWithManifest(build_py):
    """The standard build step, which also copies the weights manifest."""

    def get_output_mapping(self) -> dict[str, str]:
        """Return the source of each built file, which setuptools uses for editable installs."""
        return {**super().get_output_mapping(), self._built_manifest: MANIFEST}

    def run(self) -> None:
        """Build the package and copy the manifest, except for an editable install.

        An editable install reads the manifest in the repository's root.
        """
        super().run()
        if not self.editable_mode:
            # build_py.copy_file would keep a newer file that an earlier build left behind.
            shutil.copyfile(MANIFEST, self._built_manifest)

    @property
    def _built_manifest(self) -> str:
        return os.path.join(self.build_lib, "mdan_zoo", MANIFEST)


setup(cmdclass={"build_py": BuildWithManifest})
