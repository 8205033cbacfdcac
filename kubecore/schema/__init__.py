"""From a body to an object that its kind allows: decode, prune, default, validate; knows no store."""
