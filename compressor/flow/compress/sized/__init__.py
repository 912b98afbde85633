"""A student for so many bytes: what it is made of, what that takes, what it costs, and which is chosen."""
