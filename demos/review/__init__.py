"""Looking at recorded episodes, and editing them."""
