"""Parts of the picture of a trace: words, axis of steps, curves, panels, layout."""
