"""Artifacts served over HTTP: what OpenAI's, TEI's and Hugging Face's clients send, put into batches as it comes."""
