"""All that a robot computer needs to run a policy file; no torch."""
