import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore.errors import ApiStatusError
from kubecore.streams.proxying import (
    PodPort,
    ProxyName,
    answered,
    moved,
    parse_name,
    passed_on,
    pod_port,
    service_port,
    wanted_text,
)

PREFIX = "/api/v1/namespaces/d/pods/web:8080/proxy"
POD = {
    "metadata": {"name": "web"},
    "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]},
}
BARE = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a"}]}}
SERVICE = {
    "metadata": {"name": "shop"},
    "spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]},
}


def target(name, kind="Pod"):
    return {"ip": "10.0.0.1", "targetRef": {"kind": kind, "name": name}}


ENDPOINTS = {
    "subsets": [
        {
            "addresses": [target("a"), target("x", "Node")],
            "ports": [{"name": "http", "port": 8080}],
        },
        {"notReadyAddresses": [target("b")], "ports": [{"name": "admin", "port": 9090}]},
    ]
}


def refusal(call, *arguments):
    with pytest.raises(ApiStatusError) as caught:
        call(*arguments)
    return caught.value.status, caught.value.message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("web", ("", "web", "")),
        ("web:8080", ("", "web", "8080")),
        ("https:web:8443", ("https", "web", "8443")),
        ("https:web:", ("https", "web", "")),
        (":web:80", ("", "web", "80")),
    ],
)
def test_a_name_may_carry_a_scheme_and_a_port(text, parts):
    assert parse_name(text, "pod") == ProxyName(*parts)


@pytest.mark.parametrize("text", ["ftp:web:1", "a:b:c:d", ":80", "http::80"])
def test_other_forms_of_a_name_are_refused(text):
    assert refusal(parse_name, text, "pod") == (400, f'invalid pod request "{text}"')


@given(st.text(max_size=30))
def test_a_name_that_is_taken_apart_can_be_put_together_again(text):
    try:
        wanted = parse_name(text, "pod")
    except ApiStatusError:
        return
    assert wanted_text(wanted).strip(":") == text.strip(":")


def test_a_pods_port_is_the_one_named_or_its_first_or_the_schemes():
    assert pod_port(POD, ProxyName("", "web", "81")) == PodPort("web", 81, "http")
    assert pod_port(POD, ProxyName("", "web", "")).port == 8080
    assert pod_port(BARE, ProxyName("", "web", "")).port == 80
    assert pod_port(BARE, ProxyName("https", "web", "")) == PodPort("web", 443, "https")
    for port in ("0", "65536", "http", "-1", "9" * 30):
        assert refusal(pod_port, POD, ProxyName("", "web", port))[0] == 400


def test_a_services_port_is_named_or_numbered_and_leads_to_a_ready_pod():
    for port in ("http", "80"):
        found = service_port(SERVICE, ENDPOINTS, ProxyName("", "shop", port))
        assert found == PodPort("a", 8080, "http")
    for port in ("admin", "81", ""):
        status, message = refusal(service_port, SERVICE, ENDPOINTS, ProxyName("", "shop", port))
        assert (status, "no endpoints available for service" in message) == (503, True)
    message = 'no service port 82 found for service "shop"'
    assert refusal(service_port, SERVICE, None, ProxyName("", "shop", "82")) == (503, message)


def test_the_only_port_of_a_service_need_not_be_named():
    one = {**SERVICE, "spec": {"ports": SERVICE["spec"]["ports"][:1]}}
    assert service_port(one, ENDPOINTS, ProxyName("https", "shop", "")).scheme == "https"


def test_headers_of_a_connection_and_rights_are_not_passed_on():
    sent = [("Authorization", "x"), ("Connection", "keep-alive, X-Own"), ("x-own", "1"), ("A", "b")]
    assert passed_on(sent) == [("A", "b")]
    assert answered([("Access-Control-Allow-Origin", "*"), ("A", "b")]) == [("A", "b")]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/login?a=b", f"{PREFIX}/login?a=b"),
        ("next", "next"),
        ("http://10.0.0.1:8080/login", f"https://api:6443{PREFIX}/login"),
        ("https://api:6443/login", f"https://api:6443{PREFIX}/login"),
        (f"{PREFIX}/there", f"{PREFIX}/there"),
        ("https://elsewhere/x", "https://elsewhere/x"),
        ("//elsewhere/x", "//elsewhere/x"),
        ("http://[", "http://["),
    ],
)
def test_redirects_within_the_application_stay_below_the_proxy(location, expected):
    assert moved(location, PREFIX, "api:6443", ["10.0.0.1:8080"]) == expected


@given(st.text(max_size=60) | st.text("htp:/?#[]@.%19ab", max_size=60))
def test_any_location_is_turned_or_left(location):
    turned = moved(location, PREFIX, "api:6443", ["10.0.0.1:8080"])
    assert turned == location or PREFIX in turned
