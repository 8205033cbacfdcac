"""kubecore: the embedded Kubernetes API, its scheduler and controllers, as one process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from corekit.collector import expect_long_lives
from corekit.daemon import run_daemon
from corekit.errors import ConfigError
from corekit.lifecycle import Component, run_components
from kubecore.access.accounts import Accounts
from kubecore.access.authz import Authorizer
from kubecore.controllers.bootstrap import Bootstrap
from kubecore.controllers.certificates import CertificateRequests
from kubecore.controllers.cleanup import Cleanup
from kubecore.controllers.endpoints import ServiceEndpoints
from kubecore.controllers.garbage import GarbageCollector
from kubecore.controllers.masterservice import MasterService
from kubecore.controllers.namespacedefaults import NamespaceDefaults
from kubecore.controllers.nodelifecycle import NodeLifecycle
from kubecore.controllers.orphans import OrphanedPods
from kubecore.controllers.quotastatus import QuotaStatus
from kubecore.controllers.scheduler import Scheduler
from kubecore.controllers.volumebinder import VolumeBinder
from kubecore.kinds.registry import Registry
from kubecore.objects.admitters import Admitter, Admitters
from kubecore.objects.certificates import SubjectRestriction
from kubecore.objects.client import Objects
from kubecore.objects.limit_ranges import LimitRanger
from kubecore.objects.operations import Operations
from kubecore.objects.pod_accounts import PodAccounts
from kubecore.objects.pod_classes import (
    PRIORITIES,
    OneDefaultPriority,
    PodPriorities,
    PodRuntimes,
)
from kubecore.objects.quotas import QuotaLimits, QuotaUsage
from kubecore.objects.service_addresses import ServiceAddresses
from kubecore.objects.watching import WatchHub
from kubecore.serving.api import Api
from kubecore.serving.server import ApiServer
from kubecore.settings import KubecoreSettings
from kubecore.storage.errors import StoreOpenError
from kubecore.storage.store import Store
from kubecore.streams.kubelet import KubeletClient
from kubecore.streams.scraper import Scraper
from kubecore.values.signers import REQUESTS


def components(settings: KubecoreSettings) -> list[Component]:
    """Return kubecore's parts in dependency order."""
    store = Store(Path(settings.store.path))
    registry, hub = Registry(), WatchHub(store)
    addresses = ServiceAddresses(store, settings.services.network(), settings.services.node_ports())
    usage = QuotaUsage(store)
    admitters = admission_steps(
        store, addresses, usage, mount_tokens=settings.accounts.mount_tokens
    )
    operations = Operations(store, registry, hub, admitters)
    objects, kubelets = Objects(operations), KubeletClient(settings.kubelet)
    key_file = Path(settings.store.path).with_name("service-accounts.key")
    accounts = Accounts(settings.accounts, store, registry, key_file)
    scraper = Scraper(store, kubelets)
    root_ca = Path(settings.accounts.root_ca_file or settings.serve.client_ca_file)
    server = ApiServer(settings.serve, Api(operations, kubelets, accounts, scraper), hub)
    return [
        store,
        Bootstrap(store, registry, hub, objects),
        accounts,
        NamespaceDefaults(objects, root_ca),
        Cleanup(objects),
        GarbageCollector(store, objects),
        NodeLifecycle(objects, settings.controllers),
        OrphanedPods(objects, settings.controllers),
        Scheduler(objects),
        ServiceEndpoints(objects),
        QuotaStatus(store, objects, usage),
        CertificateRequests(objects, settings.certificates, Authorizer(store).may_ask),
        VolumeBinder(objects),
        kubelets,
        scraper,
        server,
        MasterService(objects, settings.services, addresses.master, lambda: server.bound),
    ]


def admission_steps(
    store: Store, addresses: ServiceAddresses, usage: QuotaUsage, *, mount_tokens: bool
) -> Admitters:
    """Return what new objects go through, in upstream's order: what completes them first, quotas last."""
    accounts, ranger = PodAccounts(store, mount_tokens=mount_tokens), LimitRanger(store)
    steps: dict[str, list[Admitter]] = {
        "pods": [ranger, accounts, PodPriorities(store), PodRuntimes(store)],
        "persistentvolumeclaims": [ranger],
        "services": [addresses],
        PRIORITIES: [OneDefaultPriority(store)],
        REQUESTS: [SubjectRestriction()],
    }
    return Admitters(steps, accounts, [QuotaLimits(usage)])


async def serve(settings: KubecoreSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set.

    Raises:  ConfigError: a setting, or the state file it names, cannot be used.
    """
    expect_long_lives()
    try:
        await run_components(components(settings), stop)
    except StoreOpenError as exc:
        raise ConfigError(exc.path, "", exc.problem) from exc


def main() -> int:
    """Run kubecore from the command line; return the exit status."""
    return run_daemon("kubecore", KubecoreSettings, serve)
