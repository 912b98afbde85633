"""Pickled weights read in a process apart, and written as safetensors."""
