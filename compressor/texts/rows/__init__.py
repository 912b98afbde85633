"""Rows of files by their number, from any row on: what is too much for one piece of work is cut into shards of them."""
