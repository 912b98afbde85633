"""Folders that stages leave: what is in one, what its manifest says, and the workspace of a run."""
