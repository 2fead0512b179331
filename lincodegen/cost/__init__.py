"""What a schedule costs on a target: FLOPs, bytes, and the time that they take."""
