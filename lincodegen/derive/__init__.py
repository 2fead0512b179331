"""The normal form of a step and its chunked form: events, equations, refusals."""
