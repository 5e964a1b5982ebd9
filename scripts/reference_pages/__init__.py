"""The pages of the reference, as Markdown that is generated from the code."""
