"""The drivers that come with Armadillo; each is loaded by its entry point, and only in a process of its own."""
