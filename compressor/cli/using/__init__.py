"""Commands that use an artifact."""
