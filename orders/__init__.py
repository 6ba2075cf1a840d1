"""The example host: a small shop whose orders own tasks."""
