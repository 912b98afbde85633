"""The benchmark on an NVIDIA card: prepared where there is a network, run where there is a card."""
