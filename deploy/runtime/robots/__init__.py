"""Robot drivers, one file each."""
