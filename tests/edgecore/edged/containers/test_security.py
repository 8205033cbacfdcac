"""Security settings of containers and sandboxes, from both security contexts."""

from __future__ import annotations

import pytest

from edgecore.edged.containers.security import (
    container_security,
    needs_image_user,
    sandbox_security,
)
from edgecore.edged.runtime import ContainerStartError, SELinuxLabel
from tests.fakes.pods import container, make_pod


def security(own=None, image_user=None, metadata=None, **shared):
    app = container(securityContext=own or {})
    pod = make_pod(containers=[app], metadata=metadata, securityContext=shared)
    return container_security(pod, pod.spec.containers[0], image_user, "/profiles")


def test_what_the_container_says_goes_before_what_the_pod_says():
    found = security(
        {"runAsUser": 2, "seccompProfile": {"type": "Unconfined"}},
        runAsUser=1,
        runAsGroup=3,
        seccompProfile={"type": "RuntimeDefault"},
    )
    assert (found.run_as_user, found.run_as_group, found.seccomp) == (2, 3, "Unconfined")


def test_the_pods_groups_are_those_of_every_process_the_volumes_group_first():
    found = security(fsGroup=20, supplementalGroups=[30, 20])
    assert found.supplemental_groups == (20, 30)
    assert not found.only_listed_groups
    assert security(supplementalGroupsPolicy="Strict").only_listed_groups


NON_ROOT = '(pod: "web_default(u-1)", container: app)'


@pytest.mark.parametrize(
    ("own", "shared", "image_user", "message"),
    [
        ({"runAsUser": 0}, {}, None, f"container's runAsUser breaks non-root policy {NON_ROOT}"),
        ({}, {"runAsUser": 0}, 5, f"container's runAsUser breaks non-root policy {NON_ROOT}"),
        ({}, {}, None, f"container has runAsNonRoot and image will run as root {NON_ROOT}"),
        ({}, {}, 0, f"container has runAsNonRoot and image will run as root {NON_ROOT}"),
        (
            {},
            {},
            "nginx",
            (
                "container has runAsNonRoot and image has non-numeric user (nginx), cannot verify user is "
                f"non-root {NON_ROOT}"
            ),
        ),
    ],
)
def test_root_is_refused_where_it_must_not_be(own, shared, image_user, message):
    with pytest.raises(ContainerStartError) as caught:
        security(own, image_user, **shared, runAsNonRoot=True)
    assert (caught.value.reason, caught.value.message) == ("CreateContainerConfigError", message)


def test_another_user_than_root_is_not_refused():
    security({}, 65532, runAsNonRoot=True)
    security({"runAsUser": 1}, None, runAsNonRoot=True)
    security({"runAsNonRoot": False}, 0, runAsNonRoot=True)


def test_the_image_is_only_asked_if_it_decides():
    def asks(**shared):
        pod = make_pod(securityContext=shared)
        return needs_image_user(pod, pod.spec.containers[0])

    assert asks(runAsNonRoot=True)
    assert not asks(runAsNonRoot=True, runAsUser=1)
    assert not asks()


@pytest.mark.parametrize("path", ["/etc/x.json", "../x.json", "a/../../x", ""])
def test_a_seccomp_profile_outside_the_nodes_folder_is_refused(path):
    with pytest.raises(ContainerStartError, match="CreateContainerConfigError"):
        security({"seccompProfile": {"type": "Localhost", "localhostProfile": path}})


def test_a_seccomp_profile_lies_in_the_nodes_folder():
    profile = {"type": "Localhost", "localhostProfile": "audit/strict.json"}
    assert security({"seccompProfile": profile}).seccomp == "Localhost//profiles/audit/strict.json"


@pytest.mark.parametrize(
    ("annotation", "own", "found"),
    [
        (None, None, ""),
        ("runtime/default", None, "RuntimeDefault"),
        ("unconfined", None, "Unconfined"),
        ("localhost/mine", None, "Localhost/mine"),
        ("unconfined", {"type": "Localhost", "localhostProfile": "x"}, "Localhost/x"),
    ],
)
def test_an_app_armor_profile_comes_from_the_field_or_the_old_annotation(annotation, own, found):
    notes = {"container.apparmor.security.beta.kubernetes.io/app": annotation} if annotation else {}
    context = {"appArmorProfile": own} if own else {}
    assert security(context, metadata={"annotations": notes}).app_armor == found


def test_an_unmasked_proc_is_refused():
    with pytest.raises(ContainerStartError, match="procMount: Unmasked needs hostUsers: false"):
        security({"procMount": "Unmasked"})
    security({"procMount": "Default"})


def test_an_se_linux_label_is_handed_on():
    assert security(seLinuxOptions={"level": "s0:c1"}).se_linux == SELinuxLabel(level="s0:c1")


def test_the_sandbox_is_privileged_if_any_container_is():
    apps = [container(), container("b", securityContext={"privileged": True})]
    assert sandbox_security(make_pod(containers=apps)).privileged
    assert not sandbox_security(make_pod()).privileged
