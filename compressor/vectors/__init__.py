"""Work on vectors alone: PCA, similarities, distances, and codes of fewer bytes."""
