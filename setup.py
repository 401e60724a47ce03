"""Puts the weights manifest, which stands beside the package, into it when the package is built.

All metadata is in setup.cfg.
"""

from __future__ import annotations

import os
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

MANIFEST = "weights_manifest.json"


class BuildWithManifest(build_py):
    """The usual build, with the weights manifest in the package folder."""

    def get_output_mapping(self) -> dict[str, str]:
        """Return the source of every built file; setuptools links editable installs by it."""
        return {**super().get_output_mapping(), self._built_manifest: MANIFEST}

    def run(self) -> None:
        """Build; an editable install builds nothing, it reads the checkout's own manifest."""
        super().run()
        if not self.editable_mode:
            # Not build_py's copy_file: it keeps a newer file that an earlier build left there.
            shutil.copyfile(MANIFEST, self._built_manifest)

    @property
    def _built_manifest(self) -> str:
        return os.path.join(self.build_lib, "mdan_zoo", MANIFEST)


setup(cmdclass={"build_py": BuildWithManifest})
