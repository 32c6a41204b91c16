"""Worlds that make their own images from a seed, so that nothing needs to be downloaded."""
