"""Service accounts over HTTP: tokens, who holds them, what is said about users, what pods are given."""

from __future__ import annotations

import base64
import json
import ssl
import stat
import time
from contextlib import suppress

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore.access.accounts import Accounts
from kubecore.access.authn import User
from kubecore.access.authz import Authorizer
from kubecore.access.errors import TokenError
from kubecore.access.nodeauthz import token_problem
from kubecore.access.reviews import Reviews
from kubecore.access.signing import SigningKey
from kubecore.access.target import Target
from kubecore.errors import ApiStatusError
from kubecore.kinds.registry import Registry
from kubecore.settings import AccountSettings
from kubecore.storage.store import Store
from tests.kubecore.samples import make_pod
from tests.kubecore.server import Client, Server, running

pytestmark = pytest.mark.timeout(30)
NAMESPACE = "/api/v1/namespaces/default"
TOKEN = f"{NAMESPACE}/serviceaccounts/default/token"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
PLURALS = {
    "authentication.k8s.io": ["tokenreviews", "selfsubjectreviews"],
    "authorization.k8s.io": [
        "selfsubjectaccessreviews",
        "subjectaccessreviews",
        "localsubjectaccessreviews",
        "selfsubjectrulesreviews",
    ],
}
ISSUER = "https://kubernetes.default.svc.cluster.local"


@pytest.fixture
async def bearer(server):
    """Make a client that has nothing but a token."""
    context = ssl.create_default_context(cafile=server.certificates.authority.pair.cert_file)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        client = Client(session, server.base)

        async def as_holder(token, path="/apis/authentication.k8s.io/v1/selfsubjectreviews"):
            return await client.post(path, {}, Authorization=f"Bearer {token}")

        yield as_holder


async def token_of(admin, **spec):
    status, body = await admin.post(TOKEN, {"spec": spec})
    assert status == 201, body
    return body["status"]["token"]


def claims_of(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


async def test_a_token_says_what_upstreams_say_and_its_holder_is_known(admin, bearer):
    _, account = await admin.get(f"{NAMESPACE}/serviceaccounts/default")
    before_s = time.time()
    token = await token_of(admin, expirationSeconds=600)
    claims = claims_of(token)
    uid = account["metadata"]["uid"]
    assert claims["sub"] == "system:serviceaccount:default:default"
    assert (claims["iss"], claims["aud"]) == (ISSUER, [ISSUER])
    assert claims["exp"] - claims["iat"] == 600
    assert before_s - 1 <= claims["iat"] == claims["nbf"]
    assert claims["kubernetes.io"] == {
        "namespace": "default",
        "serviceaccount": {"name": "default", "uid": uid},
    }
    status, body = await bearer(token)
    user = body["status"]["userInfo"]
    assert (status, user["username"]) == (201, "system:serviceaccount:default:default")
    assert user["uid"] == uid
    assert user["groups"] == [
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated",
    ]


async def test_a_holder_has_the_rights_of_the_account_and_no_more(admin, bearer, server):
    token = await token_of(admin)
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}]
    await admin.post(f"{rbac}/clusterroles", {"metadata": {"name": "r"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": "default"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}
    binding = {"metadata": {"name": "b"}, "roleRef": role, "subjects": [subject]}
    status, body = await bearer(token, f"{NAMESPACE}/configmaps")
    assert (status, "system:serviceaccount:default:default" in body["message"]) == (403, True)
    await admin.post(f"{rbac}/clusterrolebindings", binding)
    status, body = await bearer(token, f"{NAMESPACE}/configmaps")
    assert status == 422  # allowed; it has no name


async def test_a_token_ends_with_the_pod_it_is_bound_to(admin, bearer):
    await admin.post(f"{NAMESPACE}/pods", make_pod("web"))
    _, pod = await admin.get(f"{NAMESPACE}/pods/web")
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": pod["metadata"]["uid"]}
    token = await token_of(admin, boundObjectRef=bound)
    assert claims_of(token)["kubernetes.io"]["pod"] == {"name": "web", "uid": bound["uid"]}
    status, body = await bearer(token)
    extra = body["status"]["userInfo"]["extra"]
    assert (status, extra["authentication.kubernetes.io/pod-name"]) == (201, ["web"])
    await admin.delete(f"{NAMESPACE}/pods/web")
    assert (await bearer(token))[0] == 401
    await admin.post(f"{NAMESPACE}/pods", make_pod("web"))  # another one of the same name
    assert (await bearer(token))[0] == 401
    status, body = await admin.post(TOKEN, {"spec": {"boundObjectRef": bound}})
    assert (status, "does not match the UID in record" in body["message"]) == (409, True)


async def test_a_token_ends_with_its_account(admin, bearer):
    await admin.post(f"{NAMESPACE}/serviceaccounts", {"metadata": {"name": "bot"}})
    path = f"{NAMESPACE}/serviceaccounts/bot"
    _, body = await admin.post(f"{path}/token", {"spec": {}})
    token = body["status"]["token"]
    assert (await bearer(token))[0] == 201
    await admin.delete(path)
    assert (await bearer(token))[0] == 401
    assert (await admin.post(f"{path}/token", {"spec": {}}))[0] == 404


@pytest.mark.parametrize(
    ("spec", "status", "words"),
    [
        ({"expirationSeconds": 599}, 422, "less than 10 minutes"),
        ({"expirationSeconds": 1 << 33}, 422, "larger than 2^32 seconds"),
        ({"expirationSeconds": "x"}, 400, "not a whole number"),
        ({"audiences": [1]}, 400, "not a list of strings"),
        ({"boundObjectRef": {"kind": "Job", "name": "x"}}, 400, "object of kind Job"),
        ({"boundObjectRef": {"kind": "Pod", "name": "none"}}, 404, 'pods "none" not found'),
    ],
)
async def test_a_wrong_request_is_refused_in_upstreams_words(admin, spec, status, words):
    got, body = await admin.post(TOKEN, {"spec": spec})
    assert (got, words in body["message"]) == (status, True), body


async def test_a_token_for_others_is_not_for_this_server(admin, bearer):
    token = await token_of(admin, audiences=["vault"])
    assert (await bearer(token))[0] == 401
    _, body = await admin.post(REVIEWS, {"spec": {"token": token}})
    assert body["status"]["error"].startswith("invalid bearer token")
    assert "authenticated" not in body["status"]
    spec = {"token": token, "audiences": ["vault", "x"]}
    _, body = await admin.post(REVIEWS, {"spec": spec})
    assert (body["status"]["authenticated"], body["status"]["audiences"]) == (True, ["vault"])


async def test_tokens_outlive_a_restart_and_their_key_is_for_the_owner_only(certificates, tmp_path):
    async with running(certificates, tmp_path) as server:
        token = await token_of(await server.client())
    mode = stat.S_IMODE((tmp_path / "service-accounts.key").stat().st_mode)
    assert mode == 0o600
    async with running(certificates, tmp_path) as server:
        admin = await server.client()
        _, body = await admin.post(REVIEWS, {"spec": {"token": token}})
        assert body["status"]["authenticated"] is True


async def test_others_can_check_the_tokens_themselves(admin, server: Server):
    from cryptography.hazmat.primitives.asymmetric import ec

    reader = await server.client("jo")
    _, document = await reader.get("/.well-known/openid-configuration")
    assert (document["issuer"], document["jwks_uri"]) == (ISSUER, f"{ISSUER}/openid/v1/jwks")
    _, keys = await reader.get("/openid/v1/jwks")
    key = keys["keys"][0]
    x, y = (int.from_bytes(base64.urlsafe_b64decode(key[n] + "="), "big") for n in "xy")
    assert ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    head = (await token_of(admin)).split(".")[0]
    assert json.loads(base64.urlsafe_b64decode(head + "=="))["kid"] == key["kid"]


@given(st.text(max_size=40) | st.from_regex(r"[\w-]{1,9}\.[\w-]{1,9}\.[\w-]{1,9}", fullmatch=True))
def test_no_text_but_ours_is_a_token(tmp_path_factory, text):
    key = SigningKey(tmp_path_factory.getbasetemp() / "signing.key")
    with pytest.raises(TokenError):
        key.claims(text)


def test_a_changed_token_and_one_of_another_key_are_refused(tmp_path):
    key, other = SigningKey(tmp_path / "a"), SigningKey(tmp_path / "b")
    token = key.sign({"sub": "x"})
    assert key.claims(token) == {"sub": "x"}
    head, body, signature = token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    longer = body + base64.urlsafe_b64encode(b"   ").decode()
    for wrong in (f"{head}.{longer}.{signature}", f"{none}.{body}.", other.sign({"sub": "x"})):
        with pytest.raises(TokenError):
            key.claims(wrong)


async def test_a_node_gets_tokens_of_its_own_pods_only(server, admin):
    for node, pod in (("n1", "mine"), ("n2", "theirs")):
        await admin.post("/api/v1/nodes", {"metadata": {"name": node}})
        await admin.post(f"{NAMESPACE}/pods", make_pod(pod))
        await admin.post(f"{NAMESPACE}/pods/{pod}/binding", {"target": {"name": node}})
    node = await server.client("system:node:n1", "system:nodes")

    async def ask(pod, **changes):
        _, body = await admin.get(f"{NAMESPACE}/pods/{pod}")
        bound = {"kind": "Pod", "name": pod, "uid": body["metadata"]["uid"], **changes}
        return await node.post(TOKEN, {"spec": {"boundObjectRef": bound}})

    assert (await ask("mine"))[0] == 201
    status, body = await ask("theirs")
    assert (status, "scheduled on a different node" in body["message"]) == (403, True)
    status, body = await ask("mine", uid="")
    assert (status, "binding without a uid" in body["message"]) == (403, True)
    status, body = await node.post(TOKEN, {"spec": {}})
    assert (status, "not bound to a pod" in body["message"]) == (403, True)
    other = await server.client("system:node:n3", "system:nodes")
    assert (await other.post(TOKEN, {"spec": {}}))[0] == 403


async def test_a_node_creates_mirror_pods_of_its_own_and_no_others(server, admin):
    _, own = await admin.post("/api/v1/nodes", {"metadata": {"name": "n1"}})
    node = await server.client("system:node:n1", "system:nodes")
    mirror = make_pod("static-n1", nodeName="n1")
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": own["metadata"]["uid"]}
    mirror["metadata"]["ownerReferences"] = [owner]
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    status, body = await node.post(f"{NAMESPACE}/pods", mirror)
    assert status == 201, body
    assert "serviceAccountName" not in body["spec"]
    assert "volumes" not in body["spec"]
    status, body = await node.post(f"{NAMESPACE}/pods", make_pod("x", nodeName="n1"))
    assert (status, "can only create mirror pods" in body["message"]) == (403, True)
    mirror["spec"]["nodeName"] = "n2"
    status, body = await node.post(f"{NAMESPACE}/pods", mirror)
    assert (status, "spec.nodeName set to itself" in body["message"]) == (403, True)


async def test_pods_are_given_what_their_account_brings(admin):
    pulls = [{"name": "registry"}]
    await admin.merge(f"{NAMESPACE}/serviceaccounts/default", {"imagePullSecrets": pulls})
    _, pod = await admin.post(f"{NAMESPACE}/pods", make_pod("web"))
    spec = pod["spec"]
    assert spec["imagePullSecrets"] == pulls
    volume = spec["volumes"][0]
    assert volume["name"].startswith("kube-api-access-")
    assert [next(iter(source)) for source in volume["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    assert volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3607
    assert spec["containers"][0]["volumeMounts"] == [
        {
            "name": volume["name"],
            "readOnly": True,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        }
    ]
    _, pod = await admin.post(
        f"{NAMESPACE}/pods", make_pod("plain", automountServiceAccountToken=False)
    )
    assert "volumes" not in pod["spec"]
    status, body = await admin.post(f"{NAMESPACE}/pods", make_pod("x", serviceAccountName="nobody"))
    expected = 'error looking up service account default/nobody: serviceaccount "nobody" not found'
    assert (status, expected in body["message"]) == (403, True)


async def test_every_namespace_has_its_account_and_its_authority_and_gets_them_back(
    admin, certificates
):
    import asyncio

    await admin.post("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    shop = "/api/v1/namespaces/shop"
    status, _ = await admin.post(
        f"{shop}/pods", make_pod("web") | {"metadata": {"name": "web", "namespace": "shop"}}
    )
    assert status == 201  # it waited for the account
    await admin.delete(f"{shop}/configmaps/kube-root-ca.crt")
    await admin.delete(f"{shop}/serviceaccounts/default")
    for path in ("configmaps/kube-root-ca.crt", "serviceaccounts/default"):
        while (await admin.get(f"{shop}/{path}"))[0] != 200:
            await asyncio.sleep(0.01)
    _, bundle = await admin.get(f"{shop}/configmaps/kube-root-ca.crt")
    assert bundle["data"]["ca.crt"] == certificates.authority.pair.cert_file.read_text()


async def test_questions_about_rights_are_answered_for_everybody_who_may_ask(server, admin):
    jo = await server.client("jo")
    group = "/apis/authorization.k8s.io/v1"
    attributes = {"verb": "get", "resource": "pods", "namespace": "default"}
    spec = {"user": "jo", "resourceAttributes": attributes}
    local = f"{group}/namespaces/default/localsubjectaccessreviews"
    for path in (f"{group}/subjectaccessreviews", local):
        _, body = await admin.post(path, {"spec": spec})
        assert body["status"] == {"allowed": False}
        assert (await jo.post(path, {"spec": spec}))[0] == 403
    elsewhere = {**spec, "resourceAttributes": {**attributes, "namespace": "kube-system"}}
    status, body = await admin.post(local, {"spec": elsewhere})
    assert (status, "must match" in body["message"]) == (400, True)
    _, body = await admin.post(f"{group}/selfsubjectrulesreviews", {"spec": {"namespace": "a"}})
    assert {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]} in body["status"][
        "resourceRules"
    ]
    _, body = await jo.post(f"{group}/selfsubjectrulesreviews", {"spec": {"namespace": "a"}})
    assert body["status"]["incomplete"] is False
    assert all(rule["verbs"] == ["create"] for rule in body["status"]["resourceRules"])


SPEC_VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.lists(st.integers() | st.text(max_size=3), max_size=2)
    | st.dictionaries(st.sampled_from(["kind", "name", "uid", "verb"]), st.integers(), max_size=2)
)
SPECS = st.dictionaries(
    st.sampled_from(
        [
            "audiences",
            "boundObjectRef",
            "expirationSeconds",
            "extra",
            "groups",
            "namespace",
            "nonResourceAttributes",
            "resourceAttributes",
            "token",
            "user",
        ]
    ),
    SPEC_VALUES,
    max_size=4,
)


@given(SPECS | SPEC_VALUES)
def test_any_review_and_any_request_for_a_token_is_answered_or_refused(tmp_path_factory, spec):
    folder = tmp_path_factory.getbasetemp()
    store, registry = Store(folder / "nothing.db"), Registry()
    accounts = Accounts(AccountSettings(), store, registry, folder / "reviews.key")
    reviews = Reviews(Authorizer(store), accounts)
    for group, plurals in PLURALS.items():
        for plural in plurals:
            target = Target("create", "", group, "v1", plural, "default")
            for body in ({"spec": spec}, spec):
                with suppress(ApiStatusError):
                    json.dumps(reviews.answer(User("jo", ("system:masters",)), target, body))
    for body in ({"spec": spec}, spec):
        with suppress(ApiStatusError):
            accounts.issue("default", "default", body)
        assert isinstance(token_problem(store, "n1", target, body), str)
