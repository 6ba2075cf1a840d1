"""Host projects that differ from the example: themes, ways to serve, a second admin site."""
