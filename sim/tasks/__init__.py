"""Tasks of the simulated arm, one file each."""
