"""The gate: what an artifact must keep of its teacher and its student before it is handed out."""
