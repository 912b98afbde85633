"""How a student keeps the vectors of its words."""
