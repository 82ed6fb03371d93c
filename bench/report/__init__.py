"""Results as text, plots and documentation."""
