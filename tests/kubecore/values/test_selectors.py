import pytest

from kubecore.values.selectors import (
    SelectorError,
    match_label_selector,
    parse_field_selector,
    parse_label_selector,
)

LABELS = {"app": "web", "tier": "front", "size": "5", "example.com/x": ""}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app == web", True),
        ("app=db", False),
        ("app!=db", True),
        ("app!=web", False),
        ("none!=web", True),
        ("app", True),
        ("!app", False),
        ("!none", True),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db)", True),
        ("none notin (db)", True),
        ("none in (db)", False),
        ("app=web,tier in (front,back),!none", True),
        ("app=web,tier=back", False),
        ("size>4", True),
        ("size<4", False),
        ("app>4", False),
        ("example.com/x=", True),
        ("example.com/x", True),
    ],
)
def test_a_label_selector_selects(text, matches):
    assert parse_label_selector(text)(LABELS) is matches


@pytest.mark.parametrize(
    "text",
    [
        "a b",
        "a=b=c",
        "a in b",
        "=a",
        "a in (b",
        ",",
        "a,",
        "a=-b-",
        "-a=b",
        "x" * 20000,
        "a=b,(",
        "/a",
    ],
)
def test_what_is_no_label_selector_is_refused(text):
    with pytest.raises(SelectorError):
        parse_label_selector(text)


POD = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"nodeName": "edge-1", "hostNetwork": True},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("metadata.name=web", True),
        ("metadata.name==web", True),
        ("metadata.name!=web", False),
        ("spec.nodeName=edge-1,status.phase!=Succeeded,status.phase!=Failed", True),
        ("spec.nodeName=edge-1,status.phase!=Running", False),
        ("spec.nodeName=", False),
        ("spec.hostNetwork=true", True),
        ("spec.unschedulable=false", True),
        ("spec.missing=", True),
        (r"metadata.name=a\,b", False),
    ],
)
def test_a_field_selector_selects(text, matches):
    assert parse_field_selector(text)(POD) is matches


@pytest.mark.parametrize(
    "text", ["metadata.name", "=web", "a b=c", "metadata.name~web", "x" * 20000]
)
def test_what_is_no_field_selector_is_refused(text):
    with pytest.raises(SelectorError):
        parse_field_selector(text)


def test_a_selector_object_needs_all_its_parts():
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front"]},
            {"key": "none", "operator": "DoesNotExist"},
            {"key": "size", "operator": "Gt", "values": ["4"]},
        ],
    }
    assert match_label_selector(selector, LABELS)
    assert not match_label_selector(selector, {**LABELS, "size": "4"})
    assert not match_label_selector({"matchExpressions": [{"key": "a", "operator": "?"}]}, LABELS)
