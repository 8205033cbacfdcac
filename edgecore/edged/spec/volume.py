"""Volumes of a pod and where containers see them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import field

from edgecore.edged.spec.parts import Name, Part, Quantity
from edgecore.edged.spec.sources import FieldRef, ResourceFieldRef


class VolumeMount(Part, frozen=True):
    """Where a container sees a volume."""

    name: Name
    mount_path: str
    sub_path: str = ""
    sub_path_expr: str = ""
    read_only: bool = False
    recursive_read_only: Literal["", "Disabled", "IfPossible", "Enabled"] = ""
    mount_propagation: Literal["", "None", "HostToContainer", "Bidirectional"] = ""


class KeyToPath(Part, frozen=True):
    """A key and the file it becomes."""

    key: str
    path: str
    mode: int | None = None


class EmptyDir(Part, frozen=True):
    """Scratch space that lives as long as the pod."""

    medium: str = ""
    size_limit: Quantity | None = None


class HostPath(Part, frozen=True):
    """A path of the node."""

    path: str
    type: Literal[
        "",
        "DirectoryOrCreate",
        "Directory",
        "FileOrCreate",
        "File",
        "Socket",
        "CharDevice",
        "BlockDevice",
    ] = ""


class ConfigMapVolume(Part, frozen=True):
    """Keys of a ConfigMap as files."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class SecretVolume(Part, frozen=True):
    """Keys of a Secret as files."""

    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class DownwardFile(Part, frozen=True):
    """A field of the pod as a file."""

    path: str
    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None
    mode: int | None = None


class DownwardVolume(Part, frozen=True):
    """Fields of the pod as files."""

    items: tuple[DownwardFile, ...] = ()
    default_mode: int = 0o644


class ProjectedConfigMap(Part, frozen=True):
    """A ConfigMap or Secret within a projected volume."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class ProjectedDownward(Part, frozen=True):
    """Fields of the pod within a projected volume."""

    items: tuple[DownwardFile, ...] = ()


class ProjectedToken(Part, frozen=True):
    """A service account token bound to the pod; an empty audience is the API server's own."""

    path: str
    audience: str = ""
    expiration_seconds: Annotated[int, msgspec.Meta(ge=1)] = 3600


class ProjectedSource(Part, frozen=True):
    """One source of a projected volume."""

    config_map: ProjectedConfigMap | None = None
    secret: ProjectedConfigMap | None = None
    downward_api: ProjectedDownward | None = field(default=None, name="downwardAPI")
    service_account_token: ProjectedToken | None = None


class Projected(Part, frozen=True):
    """Several sources in one folder."""

    sources: tuple[ProjectedSource, ...] = ()
    default_mode: int = 0o644


class ClaimVolume(Part, frozen=True):
    """The persistent volume that a claim is bound to."""

    claim_name: Name
    read_only: bool = False


class Ephemeral(Part, frozen=True):
    """A claim of the pod's own, `<pod>-<volume>`; a controller makes it from a template that is not ours to read."""


class Volume(Part, frozen=True):
    """A volume; none of the sources set means a type that this node does not serve."""

    name: Name
    empty_dir: EmptyDir | None = None
    host_path: HostPath | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    downward_api: DownwardVolume | None = field(default=None, name="downwardAPI")
    projected: Projected | None = None
    persistent_volume_claim: ClaimVolume | None = None
    ephemeral: Ephemeral | None = None
