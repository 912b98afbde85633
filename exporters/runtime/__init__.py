"""Sessions of ONNX Runtime: providers, threads, words, prompts, forks, profiles."""
