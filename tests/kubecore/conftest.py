from __future__ import annotations

import pytest

from kubecore.kinds.registry import Registry
from tests.kubecore.server import Certificates, running


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def server(certificates, tmp_path):
    async with running(certificates, tmp_path) as started:
        yield started


@pytest.fixture
async def admin(server):
    return await server.client("admin")


@pytest.fixture(scope="session")
def registry():
    return Registry()
