"""What everybody shares (no torch), and the learner (torch)."""
