"""Names around certificate requests: who signs, and whom nodes are."""

from __future__ import annotations

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
# Signers that are served here; requests for others wait for a controller of somebody's own.
OWN_SIGNERS = frozenset({CLIENT, KUBELET_CLIENT, KUBELET_SERVING})
NODES_GROUP, NODE_PREFIX = "system:nodes", "system:node:"
REQUESTS = "certificatesigningrequests.certificates.k8s.io"
USAGES = (
    *("any", "cert sign", "client auth", "code signing", "content commitment", "crl sign"),
    *("data encipherment", "decipher only", "digital signature", "email protection"),
    *("encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement"),
    *("key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime"),
    *("server auth", "signing", "timestamping"),
)
