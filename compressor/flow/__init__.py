"""A recipe's way from teacher to report, a file a task over one base."""
