"""The house itself: its documents, its layout, its style."""
