import pytest
from multidict import MultiDict

from kubecore.errors import ApiStatusError
from kubecore.streams.channels import Wanted
from kubecore.streams.kubelet import endpoint_of
from kubecore.streams.requests import (
    command_path,
    container_of,
    forward_path,
    log_path,
    node_of,
    wanted_streams,
)

POD = {
    "metadata": {"namespace": "default", "name": "web"},
    "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]},
}
ONE = {"metadata": {"namespace": "ns", "name": "web"}, "spec": {"containers": [{"name": "a"}]}}


def refusal(call, *arguments):
    with pytest.raises(ApiStatusError) as caught:
        call(*arguments)
    return caught.value.status, caught.value.message


def test_the_only_container_need_not_be_named():
    assert container_of(ONE, "") == "a"
    assert container_of(POD, "i") == "i"


def test_a_container_that_cannot_be_guessed_is_asked_for_in_upstreams_words():
    text = "a container name must be specified for pod web, choose one of: [a b] or one of the init containers: [i]"
    assert refusal(container_of, POD, "") == (400, text)
    assert refusal(container_of, POD, "x") == (400, "container x is not valid for pod web")


def test_a_pod_without_a_node_is_refused():
    assert refusal(node_of, POD) == (400, "pod web does not have a host assigned")


def test_the_kubelet_has_its_own_names_for_the_streams():
    wanted = wanted_streams({"stdin": "true", "stdout": "1", "stderr": "true", "tty": "true"})
    path = command_path("exec", ONE, "a", wanted, ["sh", "-c", "a b&c"])
    expected = "/exec/ns/web/a?command=sh&command=-c&command=a+b%26c&input=1&output=1&tty=1"
    assert path == expected
    none = "you must specify at least one of stdin, stdout, stderr"
    assert refusal(wanted_streams, {}) == (400, none)
    assert refusal(command_path, "exec", ONE, "a", wanted, [])[0] == 400
    huge = ["x" * 40_000]
    assert refusal(command_path, "exec", ONE, "a", wanted, huge)[0] == 400


def test_attach_needs_no_command():
    wanted = Wanted(stdin=False, stdout=True, stderr=True, tty=False)
    assert command_path("attach", ONE, "a", wanted) == "/attach/ns/web/a?output=1&error=1"


def test_every_option_of_a_log_is_passed_on_and_wrong_ones_are_refused():
    query = MultiDict(follow="true", previous="1", tailLines="0", limitBytes="9", sinceTime="2026")
    path = log_path(ONE, "a", query)
    expected = "follow=true&previous=true&tailLines=0&limitBytes=9&sinceTime=2026"
    assert path == f"/containerLogs/ns/web/a?{expected}"
    for wrong in ({"tailLines": "-1"}, {"limitBytes": "0"}, {"sinceSeconds": "x"}):
        assert refusal(log_path, ONE, "a", wrong)[0] == 400
    both = {"sinceSeconds": "5", "sinceTime": "2026-01-01T00:00:00Z"}
    assert "at most one" in refusal(log_path, ONE, "a", both)[1]


def test_ports_are_numbers():
    assert forward_path(ONE, []) == "/portForward/ns/web"
    assert forward_path(ONE, ["80", "81,82"]) == "/portForward/ns/web?port=80%2C81%2C82"
    assert refusal(forward_path, ONE, ["http"])[0] == 400
    assert refusal(forward_path, ONE, ["99999"])[0] == 400


def test_a_node_is_reached_by_its_internal_address_and_the_port_it_names():
    addresses = [
        {"type": "Hostname", "address": "edge"},
        {"type": "InternalIP", "address": "fd00::1"},
        {"type": "InternalIP", "address": "192.0.2.1"},
    ]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": 31000}}}
    node = {"metadata": {"name": "n"}, "status": status}
    assert str(endpoint_of(node)) == "[fd00::1]:31000"
    assert refusal(endpoint_of, {"metadata": {"name": "n"}})[0] == 500
