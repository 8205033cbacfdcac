"""The kubelet's HTTPS API of every connected node, served by cloudcore through the node's one connection."""
