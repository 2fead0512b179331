"""Chooses configurations: ahead of time, from what the compiler says of each candidate."""
