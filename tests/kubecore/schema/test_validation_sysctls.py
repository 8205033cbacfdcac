"""Names of kernel parameters that cannot be any are refused by the API, with its words."""

import pytest

from kubecore.kinds.registry import Registry
from kubecore.schema.checking import InvalidObjectError, check
from tests.kubecore.samples import make_pod

PODS = Registry().find("", "v1", "pods")
RULE = (
    r"must have at most 253 characters and match regex ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*"
    "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
)


def asking(*names):
    sysctls = [{"name": name, "value": "1"} for name in names]
    return make_pod(securityContext={"sysctls": sysctls})


def test_each_name_that_can_be_none_is_told_and_no_other():
    with pytest.raises(InvalidObjectError) as caught:
        check(PODS, asking("foo-", "kernel.shmmax", "safe-and-unsafe", "bar..", "kernel.shmmax"))
    where = "spec.securityContext.sysctls"
    assert [str(cause) for cause in caught.value.causes] == [
        f'{where}[0].name: Invalid value: "foo-": {RULE}',
        f'{where}[3].name: Invalid value: "bar..": {RULE}',
        f'{where}[4].name: Duplicate value: "kernel.shmmax"',
    ]


@pytest.mark.parametrize("name", ["", "a" * 254, "net.ipv4.Up", "net.ipv4.x\n", "/proc", "a b"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(InvalidObjectError, match=r"sysctls\[0\]\.name"):
        check(PODS, asking(name))


def test_dots_slashes_and_an_interface_between_them_are_fine():
    check(PODS, asking("kernel.shm_rmid_forced", "net/ipv4/conf/eth0.100/forwarding", "a" * 253))


def test_a_long_name_costs_no_time():
    with pytest.raises(InvalidObjectError):
        check(PODS, asking("a" * 252 + "!"))
