"""MuJoCo tasks and the simulated robot."""
