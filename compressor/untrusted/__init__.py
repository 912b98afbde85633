"""What others wrote, opened apart and within bounds before anything loads it."""
