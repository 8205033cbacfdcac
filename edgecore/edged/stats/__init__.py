"""What node, pods and containers use, for the kubelet's endpoints and for eviction; knows no workers."""
