"""Kills, fuzz, hostile and foreign files."""
