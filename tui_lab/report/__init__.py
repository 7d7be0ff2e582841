"""Reports of a run: content, document, and its Markdown and HTML form."""
