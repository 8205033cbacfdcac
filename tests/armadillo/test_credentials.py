"""What a kubeconfig's user shows: certificates, tokens, and what a credential plugin says."""

import base64
import sys

import pytest

from armadillo.credentials import Credential, CredentialError, credential_of

V1 = "client.authentication.k8s.io/v1"


def plugin(code, **more):
    return {"exec": {"apiVersion": V1, "command": sys.executable, "args": ["-c", code]} | more}


def says(status):
    return f"import json; print(json.dumps({{'status': {status!r}}}))"


def test_a_certificate_goes_before_a_token():
    user = {
        "client-certificate-data": base64.b64encode(b"cert").decode(),
        "client-key-data": base64.b64encode(b"key").decode(),
        "token": "t",
    }
    assert credential_of(user, {}) == Credential(b"cert", b"key")


def test_a_token_is_taken_from_the_kubeconfig_or_from_its_file(tmp_path):
    assert credential_of({"token": "t"}, {}) == Credential(token="t")
    path = tmp_path / "token"
    path.write_text("from a file\n")
    assert credential_of({"tokenFile": str(path)}, {}) == Credential(token="from a file")


def test_a_plugin_is_asked_as_kubectl_asks_it():
    code = (
        "import json, os; asked = json.loads(os.environ['KUBERNETES_EXEC_INFO']); "
        "said = [asked['kind'], asked['apiVersion'], asked['spec']['cluster']['server'], os.environ['A']]; "
        "print(json.dumps({'status': {'token': ' '.join(said)}}))"
    )
    user = plugin(code, env=[{"name": "A", "value": "b"}], provideClusterInfo=True)
    found = credential_of(user, {"server": "https://x", "extensions": []})
    assert found.token == f"ExecCredential {V1} https://x b"


def test_a_plugin_may_answer_with_a_certificate():
    status = {"clientCertificateData": "cert", "clientKeyData": "key"}
    assert credential_of(plugin(says(status)), {}) == Credential(b"cert", b"key")


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({}, "has no client certificate, token or credential plugin"),
        ({"tokenFile": "/nonexistent/t"}, "tokenFile /nonexistent/t: No such file"),
        ({"client-certificate-data": "%"}, "is not base64"),
        (plugin("", apiVersion="v9"), "apiVersion 'v9' is not known"),
        (plugin("", command="/nonexistent/p"), "/nonexistent/p: No such file"),
        (plugin("raise SystemExit(3)"), "ended with status 3"),
        (plugin("print('hello')"), "neither token nor certificate"),
        (plugin(says({})), "neither token nor certificate"),
        (plugin(says([])), "neither token nor certificate"),
        (plugin("print(json.dumps([]))"), "ended with status 1"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(user, said, capfd):
    with pytest.raises(CredentialError, match=said) as caught:
        credential_of(user, {})
    assert "\n" not in str(caught.value)


def test_what_a_plugin_says_to_its_user_is_seen(capfd):
    with pytest.raises(CredentialError, match="neither"):
        credential_of(plugin("import sys; sys.stderr.write('log in at …')"), {})
    assert "log in at" in capfd.readouterr().err
