"""What a pod asks for, as typed values; knows what a runtime is told, and nothing that runs."""
