"""Side by side with peers, on one embedded PostgreSQL: `python -m benchmarks`."""
