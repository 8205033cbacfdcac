"""Values kept for looking back: which ones the devices say, on disk, bounded by age and bytes, over restarts."""
