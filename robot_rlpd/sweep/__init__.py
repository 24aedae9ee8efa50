"""Many runs and many actors from one command; Ray starts, places and restarts them."""
