"""What the pages have from code and from measurements: a block of Markdown for each mark in a page."""
