"""Laws of engines compared with one another and with theory."""
