"""Runtime kit without a domain: errors, lifecycle, settings, back-off, logs, metrics, certificates."""
