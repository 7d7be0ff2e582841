"""Reports of a run: facts, document, and its Markdown and HTML form."""
