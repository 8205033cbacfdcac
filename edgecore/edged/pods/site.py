"""What all pods of a node share: store, runtime, recorder, clock, and facts of the machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from edgecore.edged.admission.book import AdmissionBook
from edgecore.edged.containers.environment import Lookup, PodFacts
from edgecore.edged.images.puller import ImagePuller
from edgecore.edged.pods.events import EventRecorder
from edgecore.edged.pods.nodefacts import NodeFactsKeeper
from edgecore.edged.pods.provision import Provision
from edgecore.edged.probes.prober import Prober
from edgecore.edged.runtime import ContainerRuntime
from edgecore.edged.spec.podspec import Pod
from edgecore.edged.volumes.inputs import VolumeInputs, gather_inputs
from edgecore.edged.volumes.tokens import TokenManager
from edgecore.records import RecordStore
from edgecore.settings import PodSettings

OWNER = "edged"  # of what edged keeps with Commit.local


class RuntimeId:
    """The prefix of container ids, asked of the runtime once."""

    def __init__(self, runtime: ContainerRuntime) -> None:
        self._runtime, self._name = runtime, ""

    async def get(self) -> str:
        """Return it. Raises: RuntimeUnavailableError."""
        if not self._name:
            self._name = (await self._runtime.version()).name
        return self._name


@dataclass(frozen=True)
class Site:
    """One node, as its pods' workers see it.

    Shapes:  address: returns the node's main address, "" while unknown. allocatable: resource name -> amount.
    """

    node_name: str
    settings: PodSettings
    store: RecordStore
    runtime: ContainerRuntime
    recorder: EventRecorder
    clock: Callable[[], float]
    address: Callable[[], str]
    runtime_id: RuntimeId
    provision: Provision
    allocatable: Mapping[str, Decimal]
    prober: Prober
    admission: AdmissionBook
    puller: ImagePuller
    tokens: TokenManager
    node_facts: NodeFactsKeeper
    node_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def host_ips(self) -> list[str]:
        """Return the node's addresses, main one first."""
        address = self.address()
        return [address] if address else []

    @property
    def volume_root(self) -> Path:
        """Return the folder of all pods' files."""
        return Path(self.settings.root_dir) / "volumes"

    @property
    def has_own_filesystems(self) -> bool:
        """Return whether containers have a file system of their own to mount files into."""
        return self.runtime.name != "process" or os.geteuid() == 0

    def facts(self, pod_ips: list[str]) -> PodFacts:
        """Return what a pod with these addresses can ask about itself."""
        return PodFacts(self.node_name, self.host_ips, pod_ips, self.allocatable)

    async def volume_inputs(self, pod: Pod, lookup: Lookup, pod_ips: list[str]) -> VolumeInputs:
        """Return what the volumes of `pod` are made of now."""
        facts = self.facts(pod_ips)
        labels = {"kubernetes.io/hostname": self.node_name, **self.node_labels}
        return await gather_inputs(pod, self.store, self.tokens, lookup, facts, labels)
