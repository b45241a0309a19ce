"""The build backend of setuptools, without the modules that an earlier version left in build/lib.

setuptools copies the package there, deletes nothing, and installs all that it finds.
"""

import shutil

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the other hooks of PEP 517 and PEP 660


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Build a wheel of the package as it is now; return its name."""
    shutil.rmtree("build/lib", ignore_errors=True)
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
