"""Who runs tasks: worker processes that claim, execute, finish and rescue them."""
