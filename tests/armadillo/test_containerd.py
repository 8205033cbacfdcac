"""What PrivateContainerd refuses before it starts anything, and the files that it writes."""

from __future__ import annotations

import pytest

from armadillo.containerd import PodNetwork, PrivateContainerd
from corekit.errors import ConfigError


def test_a_folder_too_deep_for_a_socket_is_refused_by_name(tmp_path):
    folder = tmp_path / ("x" * 110)
    with pytest.raises(ConfigError, match="a socket's path has at most 101 bytes"):
        PrivateContainerd(folder).start()
    assert not folder.exists()


@pytest.mark.parametrize(
    "subnet", ["10.88.0.0", "10.88.0.1/16", "nonsense", "10.0.0.0/33", "fd00::/64"]
)
def test_a_subnet_that_is_none_is_refused(subnet):
    with pytest.raises(ConfigError, match="pod network: subnet"):
        PodNetwork(subnet=subnet)


@pytest.mark.parametrize("bridge", ["", "x" * 16, "a/b", "a b", "-x"])
def test_a_bridge_name_the_kernel_refuses_is_refused(bridge):
    with pytest.raises(ConfigError, match="pod network: bridge"):
        PodNetwork(bridge=bridge)
