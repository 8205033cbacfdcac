"""The Kubernetes API as cloudcore sees it: connection, list-then-watch, shared caches. Knows no nodes or hub."""
