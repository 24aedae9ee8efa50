"""Teleoperation devices, one file each."""
