"""Pages that change while one looks at them: rendered on the server, sent through a socket."""
