from __future__ import annotations

import pytest

from cloudcore.kube.client import KubeClient
from tests.fakes.kubeapi import FakeKubeApi


@pytest.fixture
async def api(tmp_path):
    async with FakeKubeApi(tmp_path) as running:
        yield running


@pytest.fixture
async def client(api):
    async with KubeClient(api.endpoint(), timeout_s=2.0) as entered:
        yield entered
