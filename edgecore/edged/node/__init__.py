"""What the node says of itself: its Node object, its lease, facts of the machine; knows no pods."""
