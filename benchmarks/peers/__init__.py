"""Other ways to run the same weights, measured beside ours: each in a process and environment of its own."""
