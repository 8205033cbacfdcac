"""Credential providers: programs of a few lines of shell, and what they and their config say."""

from __future__ import annotations

import json

VERSION = "credentialprovider.kubelet.k8s.io/v1"


def put_program(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def provider(name, **fields):
    """One provider of a config, of all images of ghcr.io unless told otherwise; nothing is kept."""
    return {
        "name": name,
        "matchImages": ["ghcr.io"],
        "defaultCacheDuration": "0s",
        "apiVersion": VERSION,
        **fields,
    }


def config(*providers):
    """A CredentialProviderConfig: JSON, which is YAML too."""
    head = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig"}
    return json.dumps({**head, "providers": providers}).encode()


def response(auth, **fields):
    answer = {
        "apiVersion": VERSION,
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Image",
        "auth": auth,
        **fields,
    }
    return json.dumps(answer).encode()
