"""Device models, devices, values and twins: typed, validated and merged without I/O, clock or logging."""
