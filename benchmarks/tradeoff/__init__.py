"""Quality, speed and size of several students in one table, and what to pick of them."""
