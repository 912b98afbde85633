"""A second language: the words, the parallel texts, and what aligns them."""
