"""Readers in PyTorch: what answers a question from a context."""
