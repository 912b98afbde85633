"""Sentence models in PyTorch: teachers and students, opened with every setting honoured or refused."""
