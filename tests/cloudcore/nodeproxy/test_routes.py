"""Requests as kubelet understands them: paths, options, the rights they need, and refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudcore.nodeproxy.access import Question
from cloudcore.nodeproxy.routes import Plain, Request, RouteError, question, route
from synccore.targets import (
    Attach,
    Document,
    Exec,
    Logs,
    PortForward,
    TargetError,
    decode_target,
    encode_target,
)

SPDY = (
    ("connection", "Upgrade"),
    ("upgrade", "SPDY/3.1"),
    ("x-stream-protocol-version", "v4.channel.k8s.io"),
    ("x-stream-protocol-version", "channel.k8s.io"),
    ("authorization", "Bearer secret"),
    ("cookie", "a=b"),
)


def get(target, *headers, method="GET"):
    return Request(method, target, headers)


def test_every_log_option_travels():
    options = (
        "follow=true&previous=true&timestamps=true&tailLines=5&limitBytes=10&sinceSeconds=3"
        "&sinceTime=2026-11-26T10%3A00%3A00Z&insecureSkipTLSVerifyBackend=true"
    )
    wanted = route(get(f"/containerLogs/default/web/app?{options}"))
    assert isinstance(wanted, Plain)
    assert wanted.target == Logs(
        namespace="default",
        pod="web",
        container="app",
        follow=True,
        previous=True,
        timestamps=True,
        tail_lines=5,
        limit_bytes=10,
        since_seconds=3,
        since_time="2026-11-26T10:00:00Z",
    )
    assert route(get("/containerLogs/d/p/c?stream=Stderr")).target.stream == "Stderr"


def test_a_command_keeps_its_words_and_only_what_belongs_to_an_upgrade_travels():
    path = "/exec/default/web/app?command=sh&command=-c&command=echo%20%22a%26b%22&input=1&output=1&error=1"
    wanted = route(get(path, *SPDY, method="POST"))
    assert isinstance(wanted.target, Exec)
    assert wanted.target.command == ("sh", "-c", 'echo "a&b"')
    assert (wanted.target.stdin, wanted.target.stdout, wanted.target.stderr) == (True, True, True)
    assert wanted.protocol == "spdy/3.1"
    assert wanted.target.upgrade.method == "POST"
    names = [name for name, _ in wanted.target.upgrade.headers]
    assert names == ["connection", "upgrade", *["x-stream-protocol-version"] * 2]


def test_with_a_terminal_there_is_no_stderr_and_a_uid_may_be_named():
    wanted = route(get("/attach/default/web/u-1/app?tty=1&output=1&error=1", *SPDY, method="POST"))
    assert isinstance(wanted.target, Attach)
    assert (wanted.target.uid, wanted.target.tty, wanted.target.stderr) == ("u-1", True, False)


def test_port_forward_needs_a_pod_only():
    wanted = route(get("/portForward/default/web?port=80&port=443", *SPDY, method="POST"))
    assert isinstance(wanted.target, PortForward)
    assert wanted.target.ports == (80, 443)


def test_a_token_among_the_websocket_s_protocols_does_not_reach_the_node():
    headers = (
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        (
            "sec-websocket-protocol",
            "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0",
        ),
        ("sec-websocket-key", "x"),
        ("sec-websocket-version", "13"),
    )
    wanted = route(get("/exec/default/web/app?command=ls&output=1", *headers))
    assert dict(wanted.target.upgrade.headers)["sec-websocket-protocol"] == "v4.channel.k8s.io"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/pods", "pods"),
        ("/runningpods/", "runningpods"),
        ("/runningPods/", "runningpods"),
        ("/stats/summary", "stats/summary"),
        ("/stats/summary?only_cpu_and_memory=true", "stats/summary"),
        ("/metrics", "metrics"),
        ("/metrics/resource", "metrics/resource"),
        ("/metrics/cadvisor", "metrics/cadvisor"),
        ("/healthz", "healthz"),
        ("/configz", "configz"),
    ],
)
def test_documents_have_kubelet_s_paths(path, name):
    assert route(get(path)).target == Document(name=name)


@pytest.mark.parametrize(
    ("request_", "verb", "part"),
    [
        (get("/pods"), "get", "proxy"),
        (get("/containerLogs/d/p/c"), "get", "proxy"),
        (get("/stats/summary"), "get", "stats"),
        (get("/metrics/cadvisor"), "get", "metrics"),
        (get("/metrics"), "get", "metrics"),
        (get("/logs/syslog"), "get", "log"),
        (get("/metricsx"), "get", "proxy"),
        (get("/exec/d/p/c", method="POST"), "create", "proxy"),
        # Stricter than kubelet: who may only read runs no command, whichever method upgrades.
        (get("/exec/d/p/c"), "create", "proxy"),
        (get("/anything", method="DELETE"), "delete", "proxy"),
        (get("/anything", method="BREW"), "", "proxy"),
    ],
)
def test_each_path_needs_the_right_that_kubelet_asks_for(request_, verb, part):
    assert question("edge-1", request_) == Question("edge-1", verb, part)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(get("/"), 404, id="root"),
        pytest.param(get("/run/d/p/c", method="POST"), 404, id="run-is-absent"),
        pytest.param(get("/debug/pprof"), 404, id="pprof-is-absent"),
        pytest.param(get("/containerLogs/d/p"), 404, id="no-container"),
        pytest.param(get("/containerLogs/d/p/c/x"), 404, id="too-much"),
        pytest.param(get("/pods", method="POST"), 405, id="method"),
        pytest.param(get("/containerLogs/d/p/c", method="POST"), 405, id="log-method"),
        pytest.param(get("/containerLogs/d/p/c?tailLines=-1"), 422, id="negative"),
        pytest.param(get("/containerLogs/d/p/c?limitBytes=0"), 422, id="no-bytes"),
        pytest.param(get("/containerLogs/d/p/c?tailLines=9999999999999999999"), 422, id="huge"),
        pytest.param(get("/containerLogs/d/p/c?stream=Both"), 400, id="stream"),
        pytest.param(get("/exec/d/p/c?command=ls&output=1"), 400, id="no-upgrade"),
        pytest.param(get("/exec/d/p/c?output=1", *SPDY), 400, id="no-command"),
        pytest.param(get("/exec/d/p/c?command=ls", *SPDY), 400, id="no-stream"),
        pytest.param(
            get("/exec/d/p/c?command=ls&output=1", ("connection", "upgrade"), ("upgrade", "h2c")),
            400,
            id="another-protocol",
        ),
        pytest.param(get("/portForward/d/p?port=x", *SPDY), 422, id="port"),
        pytest.param(get("/pods?" + "&".join("a=b" for _ in range(2000))), 200, id="ignored-query"),
        pytest.param(
            get("/containerLogs/d/p/c?" + "&".join("a=b" for _ in range(2000))),
            400,
            id="long-query",
        ),
    ],
)
def test_what_is_not_served_is_refused(request_, status):
    if status == 200:
        route(request_)
        return
    with pytest.raises(RouteError) as caught:
        route(request_)
    assert caught.value.status == status


@pytest.mark.parametrize("name", ["..", "a/b", "a%2Fb", "", "a b", "a\nb", "x" * 254, "%2e%2e"])
def test_a_name_that_is_none_reaches_no_node(name):
    from urllib.parse import quote

    path = f"/containerLogs/default/web/{quote(name, safe='%')}"
    with pytest.raises((RouteError, TargetError)):
        encode_target(route(get(path)).target)


@given(st.text(max_size=80), st.sampled_from(["GET", "POST"]))
def test_any_path_is_routed_or_refused_and_what_travels_survives(text, method):
    question("edge-1", get(text))
    for prefix in (
        "",
        "/",
        "/exec/d/p/c?output=1&command=",
        "/containerLogs/d/p/",
        "/portForward/",
    ):
        try:
            wanted = route(get(prefix + text, *SPDY, method=method))
            packed = encode_target(wanted.target)
        except (RouteError, TargetError):
            continue
        assert decode_target(packed) == wanted.target
