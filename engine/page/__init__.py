"""Pages for people: one file of HTML without script, and plots as inline SVG. Knows nothing of what is shown."""
