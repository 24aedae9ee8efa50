"""Recording: the session, its state, and the process that writes."""
