"""Real services for tests: started here, reached on this machine only, stopped by their pid."""
