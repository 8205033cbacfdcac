"""The run itself: start in order, wait until all is ready, say so, stop in reverse."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack

from armadillo.up import plan as plans
from armadillo.up.api import Api, ApiNotReadyError, HttpsApi, KubectlApi
from armadillo.up.console import Console
from armadillo.up.containers import ContainerdKeeper, containerd_of
from armadillo.up.objects import DEMO_DEVICE, DEMO_NAMESPACE, cluster_objects, demo_objects, role_of
from armadillo.up.plan import Plan
from armadillo.up.readiness import (
    DEADLINE_S,
    Probe,
    Readiness,
    device_online,
    node_ready,
    objects_applied,
)
from armadillo.up.supervisor import Program, Supervisor
from armadillo.up.welcome import welcome


class Conductor:
    """One run of `armadillo up` after its plan is made."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan, self._console = plan, console
        self._supervisor = Supervisor(logs=plan.layout.logs, run=plan.layout.run, console=console)
        self._keeper = (
            ContainerdKeeper(containerd_of(plan.layout), console) if plan.runtime == "cri" else None
        )
        self._api: Api = KubectlApi(plan.kubeconfig)
        self._own_api: HttpsApi | None = None
        if plan.own_cluster:
            certificates = plan.certificates
            self._own_api = HttpsApi(
                plan.ports["kubecore"], ca_file=certificates.ca_file, client=certificates.admin
            )
            self._api = self._own_api
        self._ready = Readiness(
            self._supervisor, console, deadline_s=console.elapsed_s + DEADLINE_S
        )
        # Leases carry microseconds; the wall clock of both ends is this machine's.
        self._since_s = time.time()

    async def run(self) -> None:
        """Run until SIGINT, SIGTERM or SIGHUP.

        Raises:  UpError: something did not become ready; all has been stopped again.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, stop)
        async with AsyncExitStack() as stack:
            if self._keeper is not None:
                await stack.enter_async_context(self._keeper)
            await stack.enter_async_context(self._supervisor)
            await _unless(stop, self._start())
            if not stop.is_set():
                self._console.plain(welcome(self._plan))
                await stop.wait()
            self._console.step("stopping")
            await self._say_what_stays()
        self._console.step("stopped")

    async def _start(self) -> None:
        await self._start_runtime()
        await self._start_cluster()
        await self._ready.wait(
            "the cluster's device types and roles",
            "kubecore",
            objects_applied(self._api, cluster_objects(), overwrite=True),
        )
        await self._start_daemons()
        if self._plan.options.demo:
            await self._start_demo()

    async def _start_runtime(self) -> None:
        plan = self._plan
        if self._keeper is None:
            self._console.step(f"pods run as plain processes: {plan.runtime_reason}")
            return
        await self._keeper.start()
        self._console.step(f"containerd ({self._keeper.containerd.socket}): ready")

    async def _start_cluster(self) -> None:
        plan, api = self._plan, self._own_api
        if api is None:
            await self._ready.wait("your cluster", "", lambda: _reachable(self._api))
            return
        settings = plan.layout.kubecore / "kubecore.yaml"
        await self._supervisor.start(
            plans.daemon("kubecore", settings, name="kubecore", stage=plans.KUBECORE)
        )
        await self._ready.wait(
            f"kubecore (https://127.0.0.1:{plan.ports['kubecore']})",
            "kubecore",
            lambda: api.answers("/readyz"),
        )

    async def _start_daemons(self) -> None:
        """Start cloudcore and the nodes together: the nodes dial until it answers, so no time is lost."""
        plan = self._plan
        settings = plan.layout.cloudcore / "cloudcore.yaml"
        await self._supervisor.start(
            plans.daemon("cloudcore", settings, name="cloudcore", stage=plans.CLOUDCORE)
        )
        for name in plan.nodes:
            settings = plan.layout.node(name).settings
            await self._supervisor.start(
                plans.daemon("edgecore", settings, name=name, stage=plans.EDGE)
            )
        await self._ready.wait(
            "cloudcore", "cloudcore", lambda: _listening(plan.ports["cloudcore"])
        )
        for name in plan.nodes:
            await self._ready.wait(f"node {name}", name, self._node_ready(name))

    def _node_ready(self, name: str) -> Probe:
        ready = node_ready(self._api, name, self._since_s)
        role = objects_applied(self._api, [role_of(name)], overwrite=True)

        async def probe() -> str:
            return await ready() or await role()

        return probe

    async def _start_demo(self) -> None:
        plan, node = self._plan, self._plan.nodes[0]
        await self._ready.wait(
            f"the demo's objects ({DEMO_NAMESPACE}/{DEMO_DEVICE})",
            "kubecore",
            objects_applied(self._api, demo_objects(node), overwrite=False),
        )
        device = f"{DEMO_NAMESPACE}/{DEMO_DEVICE}"
        await self._supervisor.start(
            Program(
                DEMO_DEVICE,
                (
                    *plans.python("-m", "armadillo.demo_lamp"),
                    *("--broker", plans.broker(plan, node), "--device", device),
                ),
                plans.DEMO,
            )
        )
        await self._ready.wait(
            f"device {DEMO_DEVICE}",
            DEMO_DEVICE,
            device_online(self._api, DEMO_NAMESPACE, DEMO_DEVICE),
        )

    async def _say_what_stays(self) -> None:
        try:
            pods = await asyncio.wait_for(self._api.get("/api/v1/pods"), 2.0)
        except (ApiNotReadyError, TimeoutError):
            return
        nodes = set(self._plan.nodes)
        running = [
            pod
            for pod in (pods or {}).get("items") or []
            if (pod.get("spec") or {}).get("nodeName") in nodes
            and (pod.get("status") or {}).get("phase") == "Running"
        ]
        if running:
            self._console.step(
                f"{len(running)} pod(s) keep running and are taken over by the next start; "
                f"`armadillo down --state {self._plan.layout.root}` stops and removes them"
            )

    def _on_signal(self, stop: asyncio.Event) -> None:
        if stop.is_set():
            self._console.step("still stopping; a process that does not stop is killed within 10 s")
        stop.set()


async def _unless(stop: asyncio.Event, work: object) -> None:
    """Await `work`, or cancel it as soon as `stop` is set."""
    assert asyncio.iscoroutine(work)
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        task.cancel()
        await asyncio.wait([task, stopped])
    if not task.cancelled():
        task.result()


async def _listening(port: int) -> str:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as exc:
        return str(exc)
    writer.close()
    return ""


async def _reachable(api: Api) -> str:
    return "" if await api.get("/version") is not None else "no /version"
