"""Volumes of a pod on disk and mounted; knows no runtime and no other pod."""
