"""Starting, watching and measuring processes."""
