"""Which records each node must hold, and how what nodes report reaches the Kubernetes API."""
