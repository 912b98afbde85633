"""Texts of files to vectors on disk or in a store: in shards, each written whole, in memory that does not grow."""
