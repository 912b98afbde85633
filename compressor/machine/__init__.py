"""What this machine is, how fast it can be, the threads and processes that it gives, and clusters of others."""
