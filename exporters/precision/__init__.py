"""Graphs in int8 and fp16: calibrated, smoothed, clipped and quantized."""
