"""The report of a sweep: one page, and the same as Markdown, JSON and CSV."""
