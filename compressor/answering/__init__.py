"""Extractive question answering: questions, readers, and how readers learn."""
