"""`armadillo-mapper new NAME`: a driver that runs, with its test; to be changed into what is needed."""

from __future__ import annotations

import re
from pathlib import Path

from corekit.errors import SETTINGS, ConfigError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
MAX_NAME_CHARS = 40

_PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "armadillo-driver-{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["armadillo-edge"]

[project.optional-dependencies]
test = ["pytest>=8.3"]

[project.entry-points."armadillo.drivers"]
{name} = "{module}:{cls}"

[tool.setuptools]
py-modules = ["{module}"]

[tool.pytest.ini_options]
pythonpath = ["."]
"""

_DRIVER = '''\
"""`{name}`: what it drives, in one line."""

from collections.abc import Mapping, Sequence

import msgspec

from mappers.sdk import Driver, Point, PointFault, Value, WriteRefusedError


class Config(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """spec.protocol.configData of a device."""

    address: str


class PointConfig(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """visitors.configData of a property."""

    register: int


class {cls}(Driver[Config, PointConfig]):
    """One device."""

    Config, PointConfig = Config, PointConfig

    async def open(self) -> None:
        """Connect to self.config.address; raise DeviceUnreachableError if nobody answers."""
        self.registers = dict.fromkeys(range(16), 0)

    async def read(self, points: Sequence[Point[PointConfig]]) -> Mapping[str, Value | PointFault]:
        """Return the values of `points` by name."""
        return {{point.name: self.registers[point.config.register] for point in points}}

    async def write(self, point: Point[PointConfig], value: Value) -> None:
        """Set one point; raise WriteRefusedError if the device does not take the value."""
        if not isinstance(value, int):
            raise WriteRefusedError(self.device, f"{{value!r}} is no whole number")
        self.registers[point.config.register] = value
'''

_TEST = '''\
"""The driver by itself: no edge node, no cluster."""

import asyncio

from {module} import Config, {cls}, PointConfig

from mappers.sdk import Point


def test_what_was_written_is_read():
    async def scenario():
        point = Point("level", "INT", True, PointConfig(register=3))
        driver = {cls}("default/one", Config(address="127.0.0.1"), [point])
        await driver.open()
        await driver.write(point, 42)
        assert await driver.read([point]) == {{"level": 42}}
        await driver.close()

    asyncio.run(scenario())
'''

_DEVICE = """\
# kubectl apply -f device.yaml, with the node's name in it
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata:
  name: {name}
spec:
  protocol: {name}
  properties:
    - name: level
      type: INT
      accessMode: ReadWrite
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata:
  name: {name}-1
spec:
  deviceModelRef:
    name: {name}
  nodeName: edge-1
  protocol:
    protocolName: {name}
    configData:
      address: 127.0.0.1
  properties:
    - name: level
      desired:
        value: "42"
      collectCycle: 1000
      visitors:
        protocolName: {name}
        configData:
          register: 3
"""


def write_skeleton(name: str, folder: Path) -> list[Path]:
    """Write the files of a new driver; return their paths.

    Raises:  ConfigError: no name for a driver, or the folder has something in it.
    """
    if not _NAME.match(name) or len(name) > MAX_NAME_CHARS:
        problem = f"{name!r} is no name: a to z, 0 to 9 and '-', at most {MAX_NAME_CHARS}"
        raise ConfigError(SETTINGS, "name", problem)
    module = f"driver_{name.replace('-', '_')}"
    words = {
        "name": name,
        "module": module,
        "cls": "".join(part.capitalize() for part in name.split("-")) + "Driver",
    }
    files = {
        "pyproject.toml": _PROJECT,
        f"{module}.py": _DRIVER,
        f"test_{module}.py": _TEST,
        "device.yaml": _DEVICE,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(SETTINGS, "folder", f"{folder} is not empty")
        for file, text in files.items():
            (folder / file).write_text(text.format(**words))
    except OSError as exc:
        raise ConfigError(SETTINGS, "folder", f"{folder}: {exc.strerror}") from exc
    return [folder / file for file in files]
