"""Whether this node takes a pod, decided from its own records as kubelet decides; pure, but for the book."""
