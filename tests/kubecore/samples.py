"""Objects that several tests start from; each call makes a new one."""

DEVICE_SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["nodeName"],
            "properties": {
                "nodeName": {"type": "string", "maxLength": 10},
                "mode": {"type": "string", "enum": ["auto", "manual"], "default": "auto"},
                "cycle": {"type": "integer", "minimum": 1, "maximum": 100, "format": "int32"},
                "port": {
                    "x-kubernetes-int-or-string": True,
                    "anyOf": [{"type": "integer"}, {"type": "string"}],
                },
                "code": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2},
                "note": {"type": "string", "nullable": True},
                "ratio": {"type": "number", "exclusiveMinimum": True, "minimum": 0},
                "when": {"type": "string", "format": "date-time"},
                "tags": {
                    "type": "array",
                    "maxItems": 2,
                    "x-kubernetes-list-type": "set",
                    "items": {"type": "string"},
                },
                "properties": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "unit": {"type": "string", "default": "C"},
                        },
                    },
                },
                "limits": {
                    "type": "object",
                    "additionalProperties": {"type": "integer"},
                    "maxProperties": 2,
                },
                "config": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "deep": {
                    "type": "object",
                    "default": {},
                    "properties": {"level": {"type": "integer", "default": 3}},
                },
                "choice": {
                    "type": "object",
                    "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                },
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}


def device_crd(plural="devices"):
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.devices.kubeedge.io"},
        "spec": {
            "group": "devices.kubeedge.io",
            "scope": "Namespaced",
            "names": {
                "plural": plural,
                "kind": "Device",
                "shortNames": ["dev"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": "v1beta1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": DEVICE_SCHEMA},
                }
            ],
        },
    }


def make_pod(name="web", **spec):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "a", "image": "busybox"}], **spec},
    }
