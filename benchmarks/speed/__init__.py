"""Speed: throughput, latency, load, memory, and what bounds them."""
