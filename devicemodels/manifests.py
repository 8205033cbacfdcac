"""The manifests that ship with this package: the CRDs of devices, and a lamp to try them with."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

CRD_FILES = ("devicemodels.yaml", "devices.yaml", "devicestatuses.yaml")
SAMPLE_FILES = ("lamp-model.yaml", "lamp-01.yaml")


def crd_documents() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions of DeviceModel, Device and DeviceStatus."""
    return _documents("crds", CRD_FILES)


def sample_documents() -> list[dict[str, Any]]:
    """Return the sample device model `lamp` and the device `lamp-01`, in the order to apply them."""
    return _documents("samples", SAMPLE_FILES)


def _documents(folder: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    import yaml  # late: neither daemon reads manifests while it serves

    root = files("devicemodels") / folder
    return [yaml.safe_load((root / name).read_text(encoding="utf-8")) for name in names]
