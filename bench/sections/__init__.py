"""One module a section. Each has `run(context) -> Section`: rows, goals and plots of a subject."""
