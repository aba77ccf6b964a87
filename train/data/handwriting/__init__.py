"""Strokes of digits -> pictures as people have them of digits on paper, and what a server makes of these."""
