"""Remote stepping: a robot served over ZeroMQ, and its client."""
