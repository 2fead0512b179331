"""An op as one HTML page: what was written, derived, predicted, measured and verified."""
