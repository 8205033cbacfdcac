"""One pod's life on this node: observe, plan, act, report, wait; until it is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from corekit.errors import EdgeError
from corekit.logs import RepeatedFault
from edgecore.edged.admission.demands import Demands
from edgecore.edged.containers.environment import Lookup
from edgecore.edged.containers.podrefs import fetch_references, references
from edgecore.edged.machine.memory import Exit, PodMemory
from edgecore.edged.machine.planning import Plan, plan, teardown
from edgecore.edged.machine.status import Surroundings, pod_ips, pod_status
from edgecore.edged.machine.view import View, observe
from edgecore.edged.pods.actor import Actor
from edgecore.edged.pods.gate import Gate
from edgecore.edged.pods.health import PodHealth
from edgecore.edged.pods.launch import read_termination_message
from edgecore.edged.pods.reporter import PodReporter
from edgecore.edged.pods.site import Site
from edgecore.edged.runtime import ContainerPhase, RuntimeUnavailableError
from edgecore.edged.spec.fields import not_of_processes, unknown_fields
from edgecore.edged.spec.podspec import Container, Pod, PodSpecError, decode_identity, decode_pod
from edgecore.edged.volumes.claims import claim_keys
from edgecore.edged.volumes.podvolumes import PodVolumes
from edgecore.edged.volumes.refusals import refused_volume
from edgecore.edged.volumes.tokens import token_sources
from edgecore.records import StoredObject
from synccore.messages import ObjectKey

logger = logging.getLogger(__name__)

RETRY_S = 5.0  # after a fault of the disk, the store or the runtime
SETTLE_S = 1.0  # an action that changed nothing is not repeated faster
WAKE_LIMIT_S = 300.0
SHOW_AFTER_S = 0.5  # most work is done by then, and its end is told anyway


class PodWorker:
    """Runs one pod uid. `update` and `poke` are called from the loop; `run` returns when the pod is gone."""

    def __init__(self, site: Site, uid: str, memory: PodMemory, memory_bytes: bytes = b"") -> None:
        self.uid, self.memory = uid, memory
        self._site = site
        self._volumes = PodVolumes(site.volume_root, uid, site.settings.allowed_host_paths)
        self._reporter = PodReporter(site, uid, memory, memory_bytes)
        self._wake = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self._pod: Pod | None = None
        self._tree: dict[str, Any] = {}
        self._problem = ""
        self._deleting = False
        self._gone = True
        self._retry_now = self._told_only = False
        self._released = False
        self._messages: dict[str, str] = {}
        self._log_extra = {"pod": f"{memory.namespace}/{memory.name}"}
        self._fault = RepeatedFault(logger, f"pod {memory.namespace}/{memory.name}")
        self._gate = Gate(site, uid, memory, self._reporter)
        self._actor = Actor(site, memory, self._reporter, self._volumes)
        self._health = PodHealth(site, memory, self._reporter, self._wake)

    @property
    def references(self) -> set[ObjectKey]:
        """Return the objects whose changes matter to this pod; a volume stands for all that claims may get."""
        if self._pod is None:
            return set()
        return references(self._pod) | claim_keys(self._pod)

    @property
    def waits_for_volumes(self) -> bool:
        """Return whether the pod has claims: a PersistentVolume may be theirs."""
        return self._pod is not None and bool(claim_keys(self._pod))

    @property
    def has_tokens(self) -> bool:
        """Return whether the pod shows service account tokens."""
        return self._pod is not None and bool(token_sources(self._pod))

    def update(self, stored: StoredObject | None) -> None:
        """Take the newest record; None: the pod must not be here. What is being started is dropped if it must end."""
        before = self._grace_s if self._ending else None
        self._gone = stored is None
        if stored is not None:
            self._take(stored)
        self.memory.grace_s = self._grace_s
        self._health.ending = self._ending
        if self._ending and (before is None or self._grace_s < before) and self._working:
            self._working.cancel()
        self._wake.set()

    @property
    def demands(self) -> Demands | None:
        """Return what the pod asks of the node, None before its record was understood."""
        return self._gate.demands

    @property
    def pod(self) -> Pod | None:
        """Return the pod's newest record, None if it cannot be understood."""
        return None if self._problem else self._pod

    @property
    def has_ended(self) -> bool:
        """Return whether nothing of the pod runs any more, and that was told."""
        return self.memory.status.get("phase") in ("Succeeded", "Failed")

    @property
    def is_released(self) -> bool:
        """Return whether the pod has ended, and what it took of the node's disk and memory was given back."""
        return self._released or self.memory.rejected or self.memory.ended

    @property
    def is_active(self) -> bool:
        """Return whether the pod was taken and has not ended: it is one that could be evicted."""
        return self.memory.admitted and not self.memory.outcome and not self._ending

    def evict(self, reason: str, message: str, grace_s: float, disruption: str = "") -> bool:
        """End the pod as Failed; return False if it has ended already. What is being started is dropped."""
        if not self.is_active:
            return False
        memory = self.memory
        memory.outcome, memory.reason, memory.message = "Failed", reason, message
        memory.end_grace_s, memory.disruption = grace_s, disruption
        self._reporter.emit(reason, message, "", True)
        logger.warning("pod is ended: %s: %s", reason, message, extra=self._log_extra)
        if self._working:
            self._working.cancel()
        self._wake.set()
        return True

    def poke(self, *, references_changed: bool = False) -> None:
        """Look again: something about the pod may have changed."""
        self._retry_now = self._retry_now or references_changed
        self._wake.set()

    def report_as(self, uid: str) -> None:
        """Report as the pod `uid` from now on: a static pod's mirror; "" while it has none."""
        if uid == self._reporter.reports_as:
            return
        self._reporter.reports_as = uid
        if uid:
            self.report_again()

    def report_again(self) -> None:
        """Say the newest status again, whether or not it changed."""
        self._reporter.report_again()
        self._wake.set()

    async def run(self) -> None:
        """Work until the pod is gone and cleaned up."""
        while True:
            self._wake.clear()
            delay_s: float | None = RETRY_S
            try:
                if self._gone:
                    if await self._leave():
                        return
                elif not self.memory.ended:
                    delay_s = await self._sync()
                else:
                    delay_s = None
                self._fault.cleared()
            except RuntimeUnavailableError as exc:
                # Said once for all pods by the manager, which wakes every worker when it is back. It may have
                # been this one call alone, which the manager does not know of: so this pod is looked at again.
                delay_s = RETRY_S
                logger.debug("%s", exc, extra=self._log_extra)
            except (EdgeError, OSError, ValueError) as exc:
                self._fault.failed(exc)
            await self._sleep(delay_s)

    @property
    def _ending(self) -> bool:
        return self._gone or self._deleting

    @property
    def _grace_s(self) -> float:
        return float(self._pod.grace_s) if self._pod else self.memory.grace_s

    def _take(self, stored: StoredObject) -> None:
        try:
            self._pod, self._tree = decode_pod(stored.body)
            self._problem, self._deleting = "", self._pod.is_deleting
            self._gate.take(self._pod, self._tree)
            self.memory.init_names = tuple(c.name for c in self._pod.spec.init_containers)
        except PodSpecError as exc:
            self._problem = exc.problem
            identity = decode_identity(stored.body)
            self._deleting = identity is not None and bool(identity.deletion_timestamp)

    async def _sleep(self, delay_s: float | None) -> None:
        limit_s = WAKE_LIMIT_S if delay_s is None else max(min(delay_s, WAKE_LIMIT_S), 0.0)
        try:
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _sync(self) -> float | None:
        """Bring the pod to what its record says; return the seconds until it must be looked at again."""
        if self._pod is None or self._problem:
            return await self._refuse()
        pod = self._pod
        if not await self._gate.passes(pod):
            return await self._stay_out(self._gate.status())
        lookup = await fetch_references(pod, self._site.store)
        if self._retry_now:
            self._actor.forget_config_failures()
            self._retry_now = False
        self._warn_of_unknown()
        previous: list[Any] = []
        while True:
            view, step = await self._look(pod)
            if not step.actions and not step.outcome:
                return await self._settled(pod, view, step, lookup)
            if self._gone or pod is not self._pod:
                return 0.0  # the record changed under way
            if step.actions and step.actions == previous:
                await asyncio.sleep(SETTLE_S)
            previous = step.actions
            retry_s = await self._act(pod, step, view, lookup)
            if retry_s is not None:
                await self._reporter.flush()
                return retry_s

    async def _look(self, pod: Pod) -> tuple[View, Plan]:
        """Observe and plan; tell what there is to tell."""
        view, memory, now_s = await self._observe(pod), self.memory, self._site.clock()
        step = plan(pod, view, memory, now_s, self._health.now(self._actor.starting))
        if step.outcome:
            memory.outcome, memory.reason = step.outcome, step.reason
            memory.message = step.message
            logger.info("pod %s", step.outcome.lower(), extra=self._log_extra)
            if step.reason:
                self._reporter.emit(step.reason, step.message, "", True)
        self._actor.tell_holds(pod, step.holds)
        await self._publish(pod, view, step, now_s)
        return view, step

    async def _settled(self, pod: Pod, view: View, step: Plan, lookup: Lookup) -> float | None:
        """Do what is due once there is nothing to start or stop."""
        if pod.is_deleting:
            await self._finish_deletion(pod, view)
            return None
        if self.memory.outcome:
            await self._release(pod)
            return None
        if any(c.phase is ContainerPhase.RUNNING for c in view.latest.values()):
            inputs = await self._site.volume_inputs(pod, lookup, self._ips(pod, view))
            self._actor.tell_expired(inputs)
            await asyncio.to_thread(self._volumes.refresh, pod, inputs)
            await self._reporter.flush()
        due = [at for at in (step.wake_s, self._site.tokens.due_s(pod)) if at is not None]
        return min(due) - self._site.clock() if due else None

    async def _act(self, pod: Pod, step: Plan, view: View, lookup: Lookup) -> float | None:
        """Do the planned actions; return seconds to wait if one of them cannot be done now."""
        refusal = refused_volume(self._tree)
        if refusal is not None and self._actor.starts_something(step.actions):
            self._actor.tell_once("FailedMount", refusal.message)
            return WAKE_LIMIT_S
        ips = self._ips(pod, view)
        retry: list[float | None] = [None]

        async def work() -> None:
            retry[0] = await self._actor.perform(pod, step.actions, lookup, view, ips)

        await self._until_ending(work(), pod)
        return retry[0]

    async def _until_ending(self, work: Coroutine[Any, Any, None], pod: Pod | None = None) -> None:
        """Do `work`, but drop it when `update` says that the pod must end (sooner).

        Work that takes long (a hook, a grace, a pull) must not hide what happens meanwhile: `pod` is observed
        and its status told whenever there may be news.
        """
        # No TaskGroup: errors must come out bare, and cancelling the inner task must not cancel us.
        self._working = task = asyncio.ensure_future(work)
        try:
            await asyncio.wait([task], timeout=SHOW_AFTER_S if pod else None)
            while pod is not None and not task.done():
                await self._show_while(task, pod)
        finally:
            self._working = None
            if (
                self._told_only
            ):  # what woke us has not been acted on, and the work may end in an error
                self._told_only = False
                self._wake.set()
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def _show_while(self, task: asyncio.Task[None], pod: Pod) -> None:
        """Wait for `task` or for news, and tell the news."""
        news = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait([task, news], return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if task.done() or not self._wake.is_set():
            return
        self._wake.clear()
        self._told_only = True
        try:
            view, now_s = await self._observe(pod), self._site.clock()
            await self._publish(pod, view, Plan(), now_s)
        except (EdgeError, OSError) as exc:  # said where it matters: when the work ends
            logger.debug("status not told: %s", exc, extra=self._log_extra)
        await asyncio.wait([task], timeout=SETTLE_S)  # a probe each second is no reason to hurry

    async def _observe(self, pod: Pod) -> View:
        sandboxes = await self._site.runtime.sandbox(self.uid)
        if not self.memory.start_s:  # adopted without memory: it started with its sandbox
            begun_s = [s.created_s for s in sandboxes if s.created_s]
            self.memory.start_s = min(begun_s, default=self._site.clock())
        view = observe(pod, sandboxes, self.memory)
        self._health.observe(pod, view, self._ips(pod, view), self._actor.starting)
        if self._unread(pod):
            await asyncio.to_thread(self._read_messages, pod)
        return view

    def _unread(self, pod: Pod) -> list[tuple[Container, Exit]]:
        """Return the ended containers whose termination messages have not been read."""
        return [
            (container, ended)
            for container in pod.spec.every_container
            for note in (self.memory.of(container.name),)
            for ended in (note.last_exit, note.previous_exit)
            if ended is not None and ended.id and ended.id not in self._messages
        ]

    def _read_messages(self, pod: Pod) -> None:
        log_dir = self._actor.log_dir(pod)
        for container, ended in self._unread(pod):
            self._messages[ended.id] = read_termination_message(
                self._volumes, container, ended.attempt, ended.exit_code, log_dir
            )

    async def _publish(self, pod: Pod, view: View, step: Plan, now_s: float) -> None:
        holds = {**self._actor.failures(), **step.holds}
        around = Surroundings(
            self._site.host_ips,
            await self._site.runtime_id.get(),
            holds,
            self._messages,
            self._health.now(self._actor.starting),
        )
        if self._gone:
            return  # the name may belong to another pod by now
        status = pod_status(pod, view, self.memory, around, now_s)
        if status["phase"] in ("Succeeded", "Failed"):
            self._gate.leave()
        await self._reporter.flush(status)

    def _ips(self, pod: Pod, view: View) -> list[str]:
        return pod_ips(pod, view, self._site.host_ips)

    def _warn_of_unknown(self) -> None:
        if self.memory.warned:
            return
        self.memory.warned = True
        unserved = {"not known to this release and ignored": unknown_fields(self._tree["spec"])}
        if self._site.runtime.name == "process":
            why = "not enforced on a node without a container runtime"
            unserved[why] = not_of_processes(self._tree["spec"])
        for why, fields in unserved.items():
            if fields:
                message = f"{why}: {', '.join(fields)}"
                self._reporter.emit("FieldNotServed", message, "", True)
                logger.warning("fields %s", message, extra=self._log_extra)

    async def _refuse(self) -> float | None:
        """Report a record that is no pod; nothing of it runs."""
        message = f"Pod was rejected: {self._problem}"
        if self.memory.message != message:
            self.memory.message = message
            self._reporter.emit("InvalidPod", message, "", True)
            logger.warning("not a pod: %s", self._problem, extra=self._log_extra)
        return await self._stay_out({"phase": "Failed", "reason": "InvalidPod", "message": message})

    async def _stay_out(self, status: dict[str, Any]) -> float | None:
        """Report a pod that does not run here; once it is deleted, that is soon done."""
        await self._reporter.flush(status)
        if self._deleting:
            await self._clear(self._grace_s)
            await self._remove_files(self._actor.log_dir(self._pod))
            await self._reporter.end()
        return None

    async def _finish_deletion(self, pod: Pod, view: View) -> None:
        """Nothing runs any more: report the end, remove the files, and tell the cloud to finish its delete."""
        memory = self.memory
        if not memory.outcome:
            states = [view.latest.get(c.name) for c in pod.spec.containers]
            good = all(s is not None and s.exit_code == 0 for s in states)
            memory.outcome = "Succeeded" if good else "Failed"
        # First: who reads that the pod has ended may count on its volumes being unmounted.
        await asyncio.to_thread(self._volumes.release)
        await self._publish(pod, view, Plan(), self._site.clock())
        await self._remove_files(self._actor.log_dir(pod))
        await self._reporter.end()
        logger.info("pod deleted", extra=self._log_extra)

    async def _release(self, pod: Pod) -> None:
        """Give back what a pod took that has ended and is not deleted yet: its volumes, its cgroup, its tokens.

        Its dead containers and logs are kept for who wants to know why it ended; not those of an evicted pod.
        """
        if self._released:
            return
        await asyncio.to_thread(self._volumes.release)
        await self._site.provision.remove_cgroup(self.uid)
        await self._site.tokens.forget(self.uid)
        if self.memory.evicted:
            await asyncio.to_thread(self._actor.remove_logs, Path(self._actor.log_dir(pod)))
        self._released = True

    async def _leave(self) -> bool:
        """End what runs of a pod that must not be here, without a word to the cloud; return whether all is gone."""
        await self._clear(self._grace_s)
        await self._remove_files(self._actor.log_dir(self._pod))
        if not self._gone:
            return False  # its record came back meanwhile
        await self._reporter.forget()
        self._released = True
        if self._gone:
            logger.info("pod is gone", extra=self._log_extra)
        return self._gone

    async def _clear(self, grace_s: float) -> None:
        while sandboxes := await self._site.runtime.sandbox(self.uid):
            view = View(sandboxes[0], sandboxes[1:])
            actions = teardown(view, grace_s, remove=True, pod=self._pod)
            ips = self._ips(self._pod, view) if self._pod else []
            await self._until_ending(self._actor.end(actions, self._pod, ips))

    async def _remove_files(self, log_dir: str) -> None:
        await self._site.provision.remove_cgroup(self.uid)
        # The folder last of what lies on the node: while it is there, an agent that starts cleans up after the pod.
        await asyncio.to_thread(self._volumes.remove)
        await self._site.tokens.forget(self.uid)
        if log_dir:
            await asyncio.to_thread(self._actor.remove_logs, Path(log_dir))
