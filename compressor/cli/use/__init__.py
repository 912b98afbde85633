"""Commands that put artifacts to use."""
