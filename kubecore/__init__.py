"""The embedded Kubernetes API, its scheduler and controllers; it knows nothing of edges, devices or sync."""
