"""Extractive question answering: data, windows, spans, scores, and the Reader seam."""
