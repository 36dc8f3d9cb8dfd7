"""The repository: architecture, pages, metadata, types."""
