"""Builds the extensions; everything else stands in pyproject.toml.

They are here, and not under `[tool.setuptools.ext-modules]`, because that table is still marked experimental.
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

# No contraction: a fused multiply-add rounds once where the Python twin rounds twice.
FLAGS = ["-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-unused-parameter"]
EXTENSIONS = [
    Extension(f"synccore.{name}", [f"synccore/{name}.pyx"], extra_compile_args=FLAGS)
    for name in ("_codec", "_samples")
]

setup(ext_modules=cythonize(EXTENSIONS, language_level=3))
