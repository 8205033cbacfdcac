"""What is looked at, and completed, in objects that have passed their schema: one step after the other.

Upstream's admission plugins, as far as they are served, and the allocation of addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kubecore.kinds.resource import Resource
from kubecore.objects.pod_accounts import PodAccounts

Object = dict[str, Any]


class Admitter(Protocol):
    """One step; it reads the store and writes nothing but the object it is given."""

    def admit(self, resource: Resource, obj: Object, old: Object | None, /) -> None:
        """Complete `obj`, in place, before it takes the place of `old` (None: it is new).

        Raises:  ApiStatusError: refused.
        """


class Admitters:
    """The steps of each kind, by its storage name, in order, and `last` those of every kind.

    Shapes:  accounts: told of pods before anything else.
    """

    def __init__(
        self,
        steps: Mapping[str, Sequence[Admitter]],
        accounts: PodAccounts | None = None,
        last: Sequence[Admitter] = (),
    ) -> None:
        self._steps, self._accounts, self._last = steps, accounts, last

    async def wait(self, resource: Resource, namespace: str, obj: Object) -> None:
        """Wait for what a new object needs and a controller is about to make; before it has been checked."""
        if self._accounts is not None and resource.storage_name == "pods":
            await self._accounts.wait(namespace, obj)

    def admit(self, resource: Resource, obj: Object, old: Object | None) -> None:
        """Run the steps. Raises:  ApiStatusError: one of them refused."""
        for step in (*self._steps.get(resource.storage_name, ()), *self._last):
            step.admit(resource, obj, old)


NO_ADMITTERS = Admitters({})
