"""What a container is given: environment, configuration, the objects it refers to; starts nothing."""
