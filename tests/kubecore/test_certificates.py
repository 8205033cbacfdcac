"""Certificate signing requests through the whole API, and with the real kubectl."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import json
import ssl
from dataclasses import replace

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from corekit.errors import ConfigError
from kubecore.controllers.certificates import is_outdated
from kubecore.settings import CertificateSettings
from tests.kubecore.server import Certificates, running
from tests.kubecore.test_kubectl import VERSIONS, Kubectl

pytestmark = pytest.mark.timeout(60)
GROUP = "certificates.k8s.io"
REQUESTS = f"/apis/{GROUP}/v1/certificatesigningrequests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING = "kubernetes.io/kubelet-serving"
NODE_USAGES = ["digital signature", "client auth"]


class SigningCertificates(Certificates):
    """kubecore with the key of its authority."""

    def settings(self, folder):
        pair = self.authority.pair
        signing = CertificateSettings(str(pair.cert_file), str(pair.key_file))
        return replace(super().settings(folder), certificates=signing)


@pytest.fixture
async def server(tmp_path, tmp_path_factory):
    certificates = SigningCertificates(tmp_path_factory.mktemp("signing"))
    async with running(certificates, tmp_path) as started:
        yield started


def pem_of(name, *groups, hosts=(), key=None):
    key = key or ec.generate_private_key(ec.SECP256R1())
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    parts += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(parts))
    if hosts:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    made = builder.sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def request(name="jo", pem=None, signer=CLIENT, usages=("client auth",), **spec):
    encoded = base64.b64encode(pem or pem_of(name)).decode()
    spec = {"request": encoded, "signerName": signer, "usages": list(usages), **spec}
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": spec,
    }


def decision(kind, **fields):
    return {"type": kind, "status": "True", "reason": "Test", "message": "said so", **fields}


async def decide(client, name, *conditions):
    _, body = await client.get(f"{REQUESTS}/{name}")
    body["status"] = {"conditions": list(conditions)}
    return await client.put(f"{REQUESTS}/{name}/approval", body)


async def until_status(client, name, accept):
    async with asyncio.timeout(30):
        while True:
            _, body = await client.get(f"{REQUESTS}/{name}")
            status = body.get("status") or {}
            if accept(status):
                return status
            await asyncio.sleep(0.02)


async def issued(client, name):
    status = await until_status(client, name, lambda status: "certificate" in status)
    return x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))


def kinds(status):
    return {c["type"] for c in status.get("conditions") or ()}


async def test_an_approved_request_becomes_a_certificate_that_is_believed(server, admin, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    made = request("jo", pem_of("jo", "crew", key=key), expirationSeconds=3600)
    status, body = await admin.post(REQUESTS, made)
    assert (status, body["status"]) == (201, {})
    assert body["spec"]["username"] == "admin"
    assert "system:masters" in body["spec"]["groups"]
    status, body = await decide(admin, "jo", decision("Approved"))
    assert status == 200, body
    assert body["status"]["conditions"][0]["lastUpdateTime"]
    certificate = await issued(admin, "jo")
    lasting = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(minutes=50) < lasting <= dt.timedelta(hours=1)
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    # It is who it says it is, to the server that issued it.
    cert_file, key_file = tmp_path / "jo.crt", tmp_path / "jo.key"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    key_file.write_bytes(key.private_bytes(*form, serialization.NoEncryption()))
    context = ssl.create_default_context(cafile=server.certificates.authority.pair.cert_file)
    context.load_cert_chain(cert_file, key_file)
    connector = aiohttp.TCPConnector(ssl=context)
    whoami = f"{server.base}/apis/authentication.k8s.io/v1/selfsubjectreviews"
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(whoami, json={}) as reply,
    ):
        user = (await reply.json())["status"]["userInfo"]
    assert (user["username"], "crew" in user["groups"]) == ("jo", True)


async def test_a_denied_request_stays_without_certificate(admin):
    await admin.post(REQUESTS, request("jo"))
    assert (await decide(admin, "jo", decision("Denied")))[0] == 200
    status, body = await decide(admin, "jo", decision("Denied"), decision("Approved"))
    assert (status, "mutually exclusive" in body["message"]) == (422, True)
    status, body = await decide(admin, "jo")
    assert (status, "may not remove a condition" in body["message"]) == (422, True)
    _, body = await admin.get(f"{REQUESTS}/jo")
    assert "certificate" not in body["status"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"request": base64.b64encode(b"nothing").decode()}, "PEM block type must be CERTIFICATE"),
        ({"usages": []}, "spec.usages: Required value"),
        ({"usages": ["flying"]}, 'Unsupported value: "flying"'),
        ({"expirationSeconds": 300}, "may not specify a duration less than 600 seconds"),
        ({"signerName": "kubernetes.io/legacy-unknown"}, "the legacy signerName is not allowed"),
        ({"signerName": "mine"}, "must be a fully qualified domain and path"),
    ],
)
async def test_what_is_no_request_is_refused(admin, change, problem):
    body = request("jo")
    body["spec"] |= change
    status, body = await admin.post(REQUESTS, body)
    assert (status, problem in body["message"]) == (422, True), body


async def test_a_request_with_a_foreign_key_is_refused(admin):
    pem = bytearray(base64.b64decode(b"".join(pem_of("jo").splitlines()[1:-1])))
    pem[-1] ^= 1  # the signature's last byte
    lines = base64.encodebytes(bytes(pem))
    start, end = (b"-----%b CERTIFICATE REQUEST-----\n" % word for word in (b"BEGIN", b"END"))
    status, body = await admin.post(REQUESTS, request("jo", start + lines + end))
    assert (status, body["reason"]) == (422, "Invalid"), body


async def test_nobody_becomes_a_master_by_request(admin):
    status, body = await admin.post(REQUESTS, request("jo", pem_of("jo", "system:masters")))
    assert status == 403
    assert body["message"].endswith(
        f"use of {CLIENT} signer with system:masters group is not allowed"
    )


@pytest.mark.parametrize(
    ("pem", "signer", "usages", "problem"),
    [
        (pem_of("jo"), CLIENT, ["server auth"], "invalid usage for client certificate"),
        (pem_of("jo"), SERVING, ["server auth"], "subject organization is not system:nodes"),
        (
            pem_of("system:node:n", "system:nodes"),
            SERVING,
            ["server auth", "digital signature"],
            "DNS or IP subjectAltName is required",
        ),
        (
            pem_of("system:node:n", "system:nodes", hosts=["n"]),
            KUBELET,
            NODE_USAGES,
            "DNS subjectAltNames are not allowed",
        ),
    ],
)
async def test_a_signer_fails_what_is_not_its_own(admin, pem, signer, usages, problem):
    await admin.post(REQUESTS, request("jo", pem, signer, usages))
    await decide(admin, "jo", decision("Approved"))
    status = await until_status(admin, "jo", lambda status: "Failed" in kinds(status))
    failed = next(c for c in status["conditions"] if c["type"] == "Failed")
    assert failed["reason"] == "SignerValidationFailure"
    assert problem in failed["message"]
    assert "certificate" not in status


async def test_a_kubelets_serving_certificate_has_its_names(admin):
    pem = pem_of("system:node:n", "system:nodes", hosts=["n.example.org"])
    usages = ["digital signature", "key encipherment", "server auth"]
    await admin.post(REQUESTS, request("n", pem, SERVING, usages))
    await decide(admin, "n", decision("Approved"))
    certificate = await issued(admin, "n")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n.example.org"]


async def bind(admin, name, role, *users):
    subjects = [{"kind": "User", "name": user} for user in users]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    body = {"metadata": {"name": name}, "roleRef": reference, "subjects": subjects}
    assert (await admin.post(f"{RBAC}/clusterrolebindings", body))[0] == 201


async def test_a_nodes_own_request_is_approved_only_once_rbac_lets_it(server, admin):
    node = await server.client("system:node:n1", "system:nodes")
    pem = pem_of("system:node:n1", "system:nodes")
    status, body = await node.post(REQUESTS, request("before", pem, KUBELET, NODE_USAGES))
    assert status == 201, body
    role = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
    await bind(admin, "nodes", role, "system:node:n1")
    await node.post(REQUESTS, request("after", pem, KUBELET, NODE_USAGES))
    other = pem_of("system:node:n2", "system:nodes")
    await node.post(REQUESTS, request("other", other, KUBELET, NODE_USAGES))
    certificate = await issued(admin, "after")
    assert certificate.subject.rfc4514_string() == "O=system:nodes,CN=system:node:n1"
    # Not for another node; and the other signers are a person's to approve.
    await node.post(REQUESTS, request("client", pem_of("n1"), CLIENT))
    await issued(admin, "after")
    for name in ("other", "client"):
        _, body = await admin.get(f"{REQUESTS}/{name}")
        assert body["status"] == {}
    status, _ = await node.put(f"{REQUESTS}/other/approval", body)
    assert status == 403


async def test_approving_and_signing_need_rights_for_the_signer(server, admin):
    rules = [
        {
            "apiGroups": [GROUP],
            "resources": [
                "certificatesigningrequests",
                "certificatesigningrequests/approval",
                "certificatesigningrequests/status",
            ],
            "verbs": ["get", "update", "create"],
        }
    ]
    await admin.post(f"{RBAC}/clusterroles", {"metadata": {"name": "paths"}, "rules": rules})
    signers = {"apiGroups": [GROUP], "resources": ["signers"], "verbs": ["approve", "sign"]}
    for name, signer in (("one", "example.com/mine"), ("all", "example.com/*")):
        rule = {**signers, "resourceNames": [signer]}
        await admin.post(f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": [rule]})
    await bind(admin, "paths", "paths", "jo", "al", "mo")
    await bind(admin, "one", "one", "jo")
    await bind(admin, "all", "all", "al")
    jo, al, mo = [await server.client(name) for name in ("jo", "al", "mo")]
    for name in ("mine", "yours"):
        body = request(name, signer=f"example.com/{name}")
        assert (await mo.post(REQUESTS, body))[0] == 201
    status, body = await decide(mo, "mine", decision("Approved"))
    problem = 'user not permitted to approve requests with signerName "example.com/mine"'
    assert (status, problem in body["message"]) == (403, True)
    assert (await decide(jo, "mine", decision("Approved")))[0] == 200
    assert (await decide(jo, "yours", decision("Approved")))[0] == 403
    assert (await decide(al, "yours", decision("Approved")))[0] == 200
    _, body = await mo.get(f"{REQUESTS}/mine")
    body["status"]["certificate"] = base64.b64encode(b"x").decode()
    status, answer = await mo.put(f"{REQUESTS}/mine/status", body)
    assert (status, "not permitted to sign" in answer["message"]) == (403, True)
    assert (await jo.put(f"{REQUESTS}/mine/status", body))[0] == 200
    # By its status nobody approves, and what was asked does not change.
    body = request("third", signer="example.com/mine")
    await mo.post(REQUESTS, body)
    _, body = await jo.get(f"{REQUESTS}/third")
    body["status"] = {"conditions": [decision("Approved")]}
    body["spec"]["usages"] = ["any"]
    status, answer = await jo.put(f"{REQUESTS}/third/status", body)
    assert (status, kinds(answer["status"])) == (200, set())
    status, answer = await jo.put(f"{REQUESTS}/third", body)
    assert (answer["spec"]["usages"], answer["spec"]["username"]) == (["client auth"], "mo")


def test_old_requests_are_removed_as_upstream_does():
    made_s, day_s = 1_767_225_600.0, 86_400.0  # 2026-01-01T00:00:00Z
    old = request("jo")
    old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    assert not is_outdated(old, made_s + day_s - 1)
    assert is_outdated(old, made_s + day_s + 1)
    for kind in ("Denied", "Failed"):
        condition = decision(kind, lastUpdateTime="2026-01-01T00:00:00Z")
        old["status"] = {"conditions": [condition]}
        assert not is_outdated(old, made_s + 3599)
        assert is_outdated(old, made_s + 3601)
    condition = decision("Approved", lastUpdateTime="2026-01-01T00:00:00Z")
    old["status"] = {"conditions": [condition]}
    assert not is_outdated(old, made_s + 3601), "it has not been issued yet"


@pytest.mark.parametrize(
    "settings",
    [{"ca_cert_file": "x"}, {"ca_key_file": "x"}, {"duration_s": 5}],
)
def test_half_a_key_pair_is_no_authority(settings):
    with pytest.raises(ConfigError, match="certificates"):
        CertificateSettings(**settings)


async def test_an_authority_that_cannot_be_used_leaves_requests_waiting(
    tmp_path, certificates, caplog
):
    key = tmp_path / "other.key"
    key.write_text("no key")
    signing = CertificateSettings(str(certificates.authority.pair.cert_file), str(key))
    broken = Broken(certificates, signing)
    async with running(broken, tmp_path) as server:
        admin = await server.client("admin")
        await admin.post(REQUESTS, request("jo"))
        await decide(admin, "jo", decision("Approved"))
        async with asyncio.timeout(20):
            while "other.key cannot be used" not in caplog.text:
                await asyncio.sleep(0.02)
        status, body = await admin.get(f"{REQUESTS}/jo")
        assert (status, "certificate" in body["status"]) == (200, False)


class Broken:
    """Certificates whose kubecore is told to sign with what cannot."""

    def __init__(self, certificates, signing):
        self._certificates, self._signing = certificates, signing
        self.authority, self.client = certificates.authority, certificates.client

    def settings(self, folder):
        return replace(self._certificates.settings(folder), certificates=self._signing)


@pytest.mark.e2e
@pytest.mark.parametrize("binary", VERSIONS, ids=[str(v)[-4:] for v in VERSIONS])
async def test_kubectl_approves_and_denies(server, admin, tmp_path, binary):
    if binary is None:
        pytest.skip("no kubectl on this machine")
    kubectl = Kubectl(binary, server.kubeconfig(tmp_path / "kubeconfig"), tmp_path)
    for name in ("yes", "no"):
        await kubectl("apply", "-f", "-", stdin=json.dumps(request(name)))
    assert "Pending" in await kubectl("get", "csr")
    await kubectl("certificate", "approve", "yes")
    await kubectl("certificate", "deny", "no")
    await issued(admin, "yes")
    shown = await kubectl("get", "csr")
    assert "Approved,Issued" in shown
    assert "Denied" in shown
    await kubectl("wait", "--for=condition=Approved", "csr/yes", "--timeout=20s")
    assert "Requesting User" in await kubectl("describe", "csr", "yes")


@pytest.mark.e2e
async def test_the_official_client_approves(server, tmp_path):
    from kubernetes import client, config

    def run():
        api = config.new_client_from_config(str(server.kubeconfig(tmp_path / "kubeconfig")))
        with contextlib.closing(api):
            certificates = client.CertificatesV1Api(api)
            certificates.create_certificate_signing_request(request("jo"))
            body = certificates.read_certificate_signing_request("jo")
            body.status.conditions = [
                client.V1CertificateSigningRequestCondition(
                    type="Approved", status="True", reason="Test", message="x"
                )
            ]
            return certificates.replace_certificate_signing_request_approval("jo", body)

    made = await asyncio.to_thread(run)
    assert made.status.conditions[0].type == "Approved"
