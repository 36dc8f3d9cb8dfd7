"""Processes: forks, pools, cold starts."""
