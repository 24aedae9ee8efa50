"""RLPD: reinforcement learning with prior data (torch)."""
