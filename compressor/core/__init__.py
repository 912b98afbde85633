"""What everything stands on: errors, settings, JSON, files in the cache, progress, and what an encoder is."""
