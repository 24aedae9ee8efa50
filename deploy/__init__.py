"""Policy files: export and verification (torch), and the runtime (no torch)."""
