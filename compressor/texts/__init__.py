"""Where texts come from: files, tables, data sets and docstrings; cleaned, mixed and kept on disk."""
