"""What checks a conformance set where an artifact is run: handed out beside it, with nothing of this project."""
