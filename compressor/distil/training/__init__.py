"""How a student learns: what is given to it, by which losses, for how long."""
