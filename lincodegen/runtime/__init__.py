"""What generated packages import: calls, chunk helpers, tile functions, launches."""
