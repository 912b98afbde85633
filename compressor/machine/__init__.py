"""What this machine is, how fast it can be, and the threads and processes that it gives."""
