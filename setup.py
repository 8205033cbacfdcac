"""Builds the extensions, one for each .pyx of synccore and eventbus; everything else stands in pyproject.toml.

They are here, and not under `[tool.setuptools.ext-modules]`, because that table is still marked experimental.
"""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# No contraction: a fused multiply-add rounds once where the Python twin rounds twice.
FLAGS = ["-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-unused-parameter"]
EXTENSIONS = [
    Extension(".".join(source.with_suffix("").parts), [str(source)], extra_compile_args=FLAGS)
    for folder in ("synccore", "edgecore/eventbus")
    for source in sorted(Path(folder).glob("*.pyx"))
]

setup(ext_modules=cythonize(EXTENSIONS, language_level=3))
