"""Pods on this node, behind one seam (`runtime`): a pure state machine, volumes, workers, and the runtimes."""
