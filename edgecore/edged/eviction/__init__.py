"""What happens when memory, disk or process numbers run short: conditions, and whom to end; knows no workers."""
