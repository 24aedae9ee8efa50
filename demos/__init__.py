"""Recording, reviewing and converting demonstrations."""
