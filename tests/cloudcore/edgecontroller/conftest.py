from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from cloudcore.edgecontroller.controller import EdgeController
from cloudcore.edgecontroller.nodes import AGENT_LABEL
from cloudcore.edgecontroller.upstream import NodeReports
from cloudcore.kube.client import KubeClient
from cloudcore.kube.informer import Informers
from cloudcore.settings import KubeSettings
from tests.fakes.kubeapi import FakeKubeApi, until

FAST = KubeSettings(page_size=2, backoff_min_s=0.001, backoff_max_s=0.01)


@pytest.fixture
async def api(tmp_path):
    async with FakeKubeApi(tmp_path) as running:
        for node in ("edge-1", "edge-2"):
            running.put("nodes", {"metadata": {"name": node, "labels": {AGENT_LABEL: "edgecore"}}})
        running.put("nodes", {"metadata": {"name": "cloud-1"}})
        yield running


class Cloud:
    """Everything between hub and API server."""

    def __init__(self, client):
        self.informers = Informers(client, FAST)
        self.controller = EdgeController(self.informers, client, FAST)
        self.endpoints = {}  # what nodeproxy would say, by node
        self.databases = {}  # what the hub's fence would say
        self.reports = NodeReports(
            self.informers,
            client,
            backoff_s=(0.001, 0.01),
            overwritten=self.controller.status_overwritten,
            endpoint_of=self.endpoints.get,
            database_of=lambda node: self.databases.get(node, ""),
        )


@asynccontextmanager
async def running_cloud(api):
    async with KubeClient(api.endpoint(), timeout_s=2.0) as client:
        cloud = Cloud(client)
        async with cloud.controller:
            tasks = [
                asyncio.create_task(cloud.informers.run()),
                asyncio.create_task(cloud.controller.run()),
            ]
            try:
                yield cloud
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def cloud(api):
    async with running_cloud(api) as running:
        await until(lambda: running.controller.synced)
        yield running
