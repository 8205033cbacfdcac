"""Who a node is to Kubernetes: the user and group of its certificate, and of what is written with its rights."""

NODE_PREFIX, NODES_GROUP = "system:node:", "system:nodes"
