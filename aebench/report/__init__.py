"""Results -> studies -> a document of typed blocks -> Markdown, CSV, figures."""
