"""`armadillo up` and `armadillo down` as functions: everything but the flags."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from armadillo.containerd import ContainerdError
from armadillo.up.cgroups import pods_of, remove_pod_cgroups
from armadillo.up.conductor import Conductor
from armadillo.up.console import Console
from armadillo.up.containers import containerd_of, remove_all_pods, remove_traces, unmount_below
from armadillo.up.errors import UpError
from armadillo.up.options import UpOptions
from armadillo.up.plan import make_plan
from armadillo.up.processes import end_leftovers
from armadillo.up.sandboxes import end_process_pods
from armadillo.up.state import StateLayout, exclusive, open_state
from corekit.errors import ConfigError


def up(options: UpOptions) -> None:
    """Run in the foreground until Ctrl-C. Raises: ConfigError, UpError, ContainerdError."""
    console = Console()
    layout = open_state(options.state)
    with exclusive(layout):
        if ended := end_leftovers(layout.run):
            console.step(f"ended what the last run left: {', '.join(ended)}")
        plan = make_plan(options, layout)
        console.step(f"state: {layout.root}")
        asyncio.run(Conductor(plan, console).run())


def down(state: Path, *, purge: bool) -> None:
    """Stop and remove every pod of a state folder that no `up` runs on; `purge` removes the folder too.

    Raises:  ConfigError: there is no such state, or it is in use. UpError: something could not be removed.
    """
    console = Console()
    if not state.is_dir():
        raise ConfigError("--state", "", f"{state} is not a folder")
    layout = StateLayout(state.resolve())
    if not (layout.root / "lock").exists():
        # Removing is for folders that we made, and the lock is the first thing we make.
        raise ConfigError("--state", "", f"{state} was not made by armadillo up")
    with exclusive(layout):
        if ended := end_leftovers(layout.run):
            console.step(f"ended {', '.join(ended)}")
        count = end_process_pods(layout)
        count += _remove_containers(layout, console)
        remove_pod_cgroups(pods_of(layout))
        unmount_below(layout.root)
        console.step(f"removed {count} pod(s) of {layout.root}")
        if purge:
            shutil.rmtree(layout.root)
            console.step(f"removed {layout.root}")


def _remove_containers(layout: StateLayout, console: Console) -> int:
    if not layout.containerd.exists():
        return 0
    if os.geteuid() != 0:
        raise UpError(f"{layout.containerd} holds containers: only root can remove them")
    containerd = containerd_of(layout)
    count = 0
    try:
        count = remove_all_pods(containerd)
    except (ContainerdError, ConfigError) as exc:
        console.step(f"{exc}; removing what can be found")
    remove_traces(containerd)
    return count
