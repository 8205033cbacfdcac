import pytest

from kubecore.values.jsonpath import compile_path

DOCUMENT = {
    "spec": {"nodeName": "edge-1", "a.b": 1, "list": [1, 2, 3]},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}],
        "items": [{"n": 1}, {"n": 2}],
    },
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (".spec.nodeName", ["edge-1"]),
        ("{.spec.nodeName}", ["edge-1"]),
        ("$.spec.nodeName", ["edge-1"]),
        (".spec['a.b']", [1]),
        (r".spec.a\.b", [1]),
        (".spec.list[0]", [1]),
        (".spec.list[-1]", [3]),
        (".spec.list[9]", []),
        (".spec.list[*]", [1, 2, 3]),
        (".status.items[*].n", [1, 2]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Ready')].status", ["True"]),
        ('.status.conditions[?(@.type != "Ready")].status', ["False"]),
        (".status.items[?(@.n==2)].n", [2]),
        (".spec.missing.deeper", []),
        (".spec.nodeName.deeper", []),
    ],
)
def test_a_path_finds(path, values):
    assert compile_path(path)(DOCUMENT) == values


@pytest.mark.parametrize("path", ["..a", ".a[", ".a[x]", ".a[?(@.b)]", "a b", ".a..b"])
def test_what_is_not_understood_is_refused(path):
    with pytest.raises(ValueError, match="not understood from"):
        compile_path(path)
