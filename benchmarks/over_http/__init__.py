"""Servers that speak OpenAI's ``/v1/embeddings`` on loopback: ``compressor serve``, and peers beside it."""
