"""Where every op stands: against other libraries, its own token loop and what the device allows."""
