"""Builds the one extension; everything else stands in pyproject.toml.

It is here, and not under `[tool.setuptools.ext-modules]`, because that table is still marked experimental.
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

EXTENSION = Extension(
    "synccore._codec",
    ["synccore/_codec.pyx"],
    extra_compile_args=["-O3", "-Wall", "-Wextra", "-Wno-unused-parameter"],
)

setup(ext_modules=cythonize([EXTENSION], language_level=3))
