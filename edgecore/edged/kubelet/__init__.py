"""The kubelet's API at the node, without HTTP: cloudcore speaks that and opens a byte stream for each request."""
