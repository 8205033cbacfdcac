"""Components and what runs them: enter in order, serve in one TaskGroup, stop and exit in reverse."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol, TypeVar

from corekit.errors import ComponentExitedError, ConfigError
from corekit.servicemanager import ServiceManager

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Component(AbstractAsyncContextManager["Component"], Protocol):
    """Enter: take local resources, fast. `run()`: serve until cancelled. Exit: release, bounded."""

    name: str

    async def run(self) -> None:
        """Serve until cancelled; returning is an error."""


async def run_components(
    components: Sequence[Component], stop: asyncio.Event, *, stop_timeout_s: float = 3.0
) -> None:
    """Enter in order, serve in one TaskGroup, then stop and exit in reverse order.

    Units:   stop_timeout_s: seconds per component; SIGTERM must end the whole process within 10 s.
    Raises:  ExceptionGroup: one or more components failed; the others have been stopped.
    """
    manager = ServiceManager()
    async with AsyncExitStack() as stack:
        for component in components:
            await stack.enter_async_context(component)
            logger.info("%s: ready", component.name)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_serve(c), name=c.name) for c in components]
            signs = group.create_task(manager.keep_alive(), name="signs of life")
            manager.ready()
            await stop.wait()
            manager.stopping()
            signs.cancel()
            for task in reversed(tasks):  # consumers before the store they write to
                await _stop(task, stop_timeout_s)


async def _serve(component: Component) -> None:
    await component.run()
    raise ComponentExitedError(component.name)


async def _stop(task: asyncio.Task[None], timeout_s: float) -> None:
    task.cancel()
    _, late = await asyncio.wait([task], timeout=timeout_s)
    if late:
        logger.error("%s: still running %.0f s after cancel", task.get_name(), timeout_s)


def run_until_signalled(main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run `main(stop)` on uvloop; SIGTERM or SIGINT sets `stop`. Return the exit status: 0, or 1 if it failed.

    A ConfigError passes through: the command line prints it and ends with status 2.
    """
    import uvloop  # late: the command line must print a wrong setting without paying for the loop

    async def supervised() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        status = 0
        try:
            await main(stop)
        except* ConfigError:
            raise
        except* Exception as group:  # the top supervisor: the one place that may catch everything
            for exc in leaf_exceptions(group):
                logger.error("ended by %s: %s", type(exc).__name__, exc, exc_info=exc)
            status = 1
        return status

    return uvloop.run(supervised())


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` in a task of its own, so that a cancellation of the caller is never lost.

    A TaskGroup whose children fail while it is being cancelled raises their errors and drops the
    cancellation (CPython 3.11). Whoever retries after such errors must await the group through this.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it: we are leaving anyway
        raise
    return task.result()


def leaf_exceptions(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return the exceptions of a group and its subgroups, in order."""
    found: list[BaseException] = []
    for exc in group.exceptions:
        found.extend(leaf_exceptions(exc) if isinstance(exc, BaseExceptionGroup) else [exc])
    return found


def forget_frames(exc: BaseException) -> None:
    """Drop the tracebacks of `exc` and of all that it came from.

    They hold every local variable on their way, and a TaskGroup in one of them holds the exception: whatever an ended
    connection had would stay, sockets too, until the garbage collector walks everything. For what is expected only.
    """
    seen: set[int] = set()
    left: list[BaseException | None] = [exc]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        left += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def start_in(group: asyncio.TaskGroup, work: Coroutine[Any, Any, None], name: str = "") -> bool:
    """Start `work` in `group`; return False, and forget it, if the group is ending already.

    A group that ends takes no task and raises; who starts one from outside cannot know.
    """
    try:
        group.create_task(work, name=name or None)
    except RuntimeError:
        work.close()
        return False
    return True
